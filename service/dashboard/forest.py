"""A difference for each class, with its interval: which side of zero, and how sure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from markupsafe import Markup

from service.dashboard.scale import Linear, decimals_of
from service.dashboard.svg import fitted, line, picture, tag, text, text_width
from service.dashboard.wording import MINUS, count, number, signed

Verdict = Literal["worse", "better", "no_difference", "insufficient", "not_comparable"]

ROW_PX: Final = 26
TOP, BOTTOM = 26, 40
LABEL_SHARE: Final = 0.3
VALUE_PX: Final = 66
NARROW_PX: Final = 480  # below, the values stand in the table only
MARGIN: Final = 0.06
SHAPE_PX: Final = 5.0


@dataclass(frozen=True, slots=True)
class Effect:
    """What a class's mean loss changed by, nats; ``low`` to ``high`` is its interval."""

    name: str
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    rows: int


def forest(effects: Sequence[Effect], *, width: float) -> Markup:
    """Return the plot. Right of zero the candidate is worse, left of it better.

    The verdict is in the shape as well as in the colour: up, down, or a ring.
    """
    left = LABEL_SHARE * width
    left = min(left, max((text_width(each.name) for each in effects), default=0) + 14)
    right = width - (VALUE_PX if width >= NARROW_PX else 10)
    x = _scale(effects, left + 6, right - 8)
    bottom = TOP + ROW_PX * len(effects)
    parts = _frame(x, bottom)
    for place, each in enumerate(effects):
        middle = TOP + ROW_PX * (place + 0.5)
        parts += _effect(each, x, middle, left)
        if width >= NARROW_PX:
            parts.append(text(width - 4, middle + 4, signed(each.difference), "tick", "end"))
    return picture(
        width, bottom + BOTTOM, f"Forest plot of the change of {len(effects)} classes", *parts
    )


def _scale(effects: Sequence[Effect], start: float, end: float) -> Linear:
    found = [
        value
        for each in effects
        for value in (each.low, each.high, each.difference)
        if value is not None
    ]
    low, high = min([0.0, *found]), max([0.0, *found])
    margin = (high - low) * MARGIN or 1.0
    return Linear(low - margin, high + margin, start, end)


def _frame(x: Linear, bottom: float) -> list[Markup]:
    parts: list[Markup] = []
    most = max(2, int((x.end - x.start) / 80))
    ticks = x.ticks(most)
    decimals = decimals_of(ticks)
    for tick in ticks:
        parts.append(line(x(tick), TOP - 6, x(tick), bottom, "grid"))
        words = f"{tick:+.{decimals}f}".replace("-", MINUS) if tick else "0"
        parts.append(text(x(tick), bottom + 16, words, "tick", "middle"))
    parts.append(line(x(0), TOP - 6, x(0), bottom, "zero"))
    parts.append(
        text((x.start + x.end) / 2, bottom + 34, "change of the mean loss, nats", "tick", "middle")
    )
    if x(0) - x.start > text_width("◂ better"):
        parts.append(text(x(0) - 8, 12, "◂ better", "tick", "end"))
    if x.end - x(0) > text_width("worse ▸"):
        parts.append(text(x(0) + 8, 12, "worse ▸", "tick"))
    return parts


def _effect(effect: Effect, x: Linear, middle: float, left: float) -> list[Markup]:
    name = fitted(effect.name, left - 10)
    label = tag(
        "text",
        tag("title", effect.name),
        name,
        x=left - 6,
        y=middle + 4,
        class_="label",
        text_anchor="end",
    )
    if effect.difference is None:
        return [label, text(x(0) + 8, middle + 4, "too few rows", "tick")]
    kind = effect.verdict if effect.verdict in ("worse", "better") else "same"
    parts = [label]
    if effect.low is not None and effect.high is not None:
        parts.append(line(x(effect.low), middle, x(effect.high), middle, f"effect {kind}"))
    title = (
        f"{effect.name}: {signed(effect.difference)} "
        f"({number(effect.low)} to {number(effect.high)}), {count(effect.rows)} rows"
    )
    parts.append(_shape(kind, x(effect.difference), middle, title))
    return parts


def _shape(kind: str, x: float, y: float, title: str) -> Markup:
    if kind == "same":
        return tag("circle", tag("title", title), cx=x, cy=y, r=SHAPE_PX - 0.5, class_="shape same")
    tip = SHAPE_PX if kind == "better" else -SHAPE_PX
    points = (
        f"{x - SHAPE_PX:.1f},{y - tip:.1f} {x + SHAPE_PX:.1f},{y - tip:.1f} {x:.1f},{y + tip:.1f}"
    )
    return tag("polygon", tag("title", title), points=points, class_=f"shape {kind}")
