"""How often the prediction is right, by how sure it was."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from service.dashboard.scale import Linear
from service.dashboard.svg import line, picture, tag, text
from service.dashboard.wording import count, number, percent

TOP, RIGHT, BOTTOM, LEFT = 12, 14, 44, 50
COUNTS_PX: Final = 56  # the counts below
MOST_PX: Final = 460  # larger says no more
SMALLEST_PX, LARGEST_PX = 3.0, 8.0


@dataclass(frozen=True, slots=True)
class Bin:
    """Decisions whose confidence is in (lower, upper], and how many of them were right.

    ``low`` and ``high`` are the interval of the accuracy.
    """

    lower: float
    upper: float
    count: int
    confidence: float | None
    accuracy: float | None
    low: float | None = None
    high: float | None = None


def reliability(bins: Sequence[Bin], reference: Sequence[Bin] = (), *, width: float) -> Markup:
    """Return the diagram: points on the diagonal say what they mean; the counts stand below.

    Args:
        bins: points with their intervals, as large as they hold decisions.
        reference: drawn as hollow points; may be empty.
        width: pixels.
    """
    width = min(width, MOST_PX)
    side = width - LEFT - RIGHT
    x = Linear(0, 1, LEFT, LEFT + side)
    y = Linear(0, 1, TOP + side, TOP)
    total = sum(each.count for each in bins)
    parts = [*_frame(x, y), *_points(reference, x, y, "hollow"), *_points(bins, x, y, "point")]
    parts += _counts(bins, x, TOP + side + 8)
    height = TOP + side + COUNTS_PX + BOTTOM
    parts += [
        text(LEFT + side / 2, height - 6, "confidence", "tick", "middle"),
        tag(
            "text",
            "share that is right",
            x=0,
            y=0,
            class_="tick",
            text_anchor="middle",
            transform=f"translate(12 {TOP + side / 2:.1f}) rotate(-90)",
        ),
    ]
    return picture(width, height, f"Reliability diagram of {count(total)} decisions", *parts)


def _frame(x: Linear, y: Linear) -> list[Markup]:
    parts: list[Markup] = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(line(x.start, y(tick), x.end, y(tick), "grid"))
        parts.append(line(x(tick), y.start, x(tick), y.end, "grid"))
        parts.append(text(x.start - 8, y(tick) + 4, f"{tick:g}", "tick", "end"))
        parts.append(text(x(tick), y.start + 8 + COUNTS_PX + 18, f"{tick:g}", "tick", "middle"))
    parts.append(line(x(0), y(0), x(1), y(1), "diagonal"))
    return parts


def _points(bins: Sequence[Bin], x: Linear, y: Linear, class_: str) -> list[Markup]:
    most = max((each.count for each in bins), default=0)
    parts: list[Markup] = []
    for each in bins:
        if each.confidence is None or each.accuracy is None:  # it holds no decisions
            continue
        at, height = x(each.confidence), y(each.accuracy)
        if class_ == "point" and each.low is not None and each.high is not None:
            parts.append(line(at, y(each.low), at, y(each.high), "whisker"))
        radius = SMALLEST_PX + (LARGEST_PX - SMALLEST_PX) * math.sqrt(each.count / most)
        title = (
            f"confidence {number(each.confidence, 3)}, right {percent(each.accuracy)}, "
            f"{count(each.count)} decisions"
        )
        parts.append(tag("circle", tag("title", title), cx=at, cy=height, r=radius, class_=class_))
    return parts


def _counts(bins: Sequence[Bin], x: Linear, top: float) -> list[Markup]:
    most = max((each.count for each in bins), default=0) or 1
    parts = [line(x.start, top + COUNTS_PX, x.end, top + COUNTS_PX, "axis")]
    for each in bins:
        height = (COUNTS_PX - 4) * each.count / most
        parts.append(
            tag(
                "rect",
                tag("title", f"{count(each.count)} decisions"),
                x=x(each.lower) + 0.75,
                y=top + COUNTS_PX - height,
                width=x(each.upper) - x(each.lower) - 1.5,
                height=height,
                class_="bar soft",
            )
        )
    return parts
