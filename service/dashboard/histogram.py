"""The losses of rows as bars, and those of the reference as an outline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from service.dashboard.scale import Linear, Logarithmic
from service.dashboard.svg import line, picture, tag, text, text_width
from service.dashboard.wording import count, number, percent

HEIGHT: Final = 246
TOP, RIGHT, BOTTOM, LEFT = 40, 12, 40, 52
DECADES: Final = 6  # below the largest loss; what is smaller is in the first bar
BAR_PX: Final = 16
GAP_PX: Final = 8  # between labels of quantiles
LABELS: Final = (12, 27)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Rows whose loss is in (lower, upper], nats."""

    lower: float
    upper: float
    count: int


def histogram(
    now: Sequence[Bucket],
    reference: Sequence[Bucket] = (),
    *,
    quantiles: Mapping[str, float | None],
    width: float,
) -> Markup:
    """Return the chart: share of rows by loss, on a logarithmic axis.

    Args:
        now: what the bars are of.
        reference: what the outline is of; none is drawn of nothing.
        quantiles: losses to mark, by name.
        width: pixels.
    """
    low, high = _range([*now, *reference])
    x = Logarithmic(low, high, LEFT, width - RIGHT)
    bars = max(8, int((width - LEFT - RIGHT) / BAR_PX))
    shares, before = _shares(now, bars, x), _shares(reference, bars, x)
    most = max([*shares, *before], default=0) or 1.0
    y = Linear(0, most * 1.08, HEIGHT - BOTTOM, TOP)
    edges = [LEFT + place * (width - RIGHT - LEFT) / bars for place in range(bars + 1)]
    parts = [*_grid(y, width), *_bars(shares, edges, y), *_axis(x, low, now)]
    if reference:
        parts.append(_outline(before, edges, y))
    parts += _marks(quantiles, x)
    rows = sum(bucket.count for bucket in now)
    return picture(width, HEIGHT, f"Histogram of the losses of {count(rows)} rows", *parts)


def _range(buckets: Sequence[Bucket]) -> tuple[float, float]:
    """Return the ends of the axis: powers of ten, six decades at most."""
    uppers = [bucket.upper for bucket in buckets if bucket.count and bucket.upper > 0]
    lowers = [bucket.lower for bucket in buckets if bucket.count and bucket.lower > 0]
    high = 10.0 ** math.ceil(math.log10(max(uppers, default=1.0)))
    low = 10.0 ** math.floor(math.log10(min(lowers, default=high / 10)))
    return min(max(low, high / 10**DECADES), high / 10), high


def _shares(buckets: Sequence[Bucket], bars: int, x: Logarithmic) -> Sequence[float]:
    """Return the share of rows in each bar; what is below the axis is in the first one."""
    counts = [0] * bars
    for bucket in buckets:
        # The middle: a bucket is a fiftieth as wide as a bar or less.
        middle = math.sqrt(bucket.lower * bucket.upper) if bucket.lower > 0 else 0.0
        place = 0.0 if middle <= x.low else (x(middle) - x.start) / (x.end - x.start)
        counts[min(bars - 1, int(place * bars))] += bucket.count
    total = sum(counts)
    return [each / total if total else 0.0 for each in counts]


def _grid(y: Linear, width: float) -> Sequence[Markup]:
    parts = []
    ticks = y.ticks(4)
    decimals = 0 if ticks[1] >= 0.01 else 1  # noqa: PLR2004  (a percent)
    for tick in ticks:
        parts.append(line(LEFT, y(tick), width - RIGHT, y(tick), "grid"))
        parts.append(text(LEFT - 8, y(tick) + 4, percent(tick, decimals), "tick", "end"))
    return parts


def _bars(shares: Sequence[float], edges: Sequence[float], y: Linear) -> Sequence[Markup]:
    return [
        tag(
            "rect",
            tag("title", percent(share)),
            x=edges[place] + 0.75,
            y=y(share),
            width=edges[place + 1] - edges[place] - 1.5,
            height=y(0) - y(share),
            class_="bar",
        )
        for place, share in enumerate(shares)
        if share
    ]


def _outline(shares: Sequence[float], edges: Sequence[float], y: Linear) -> Markup:
    path = [f"M{edges[0]:.1f} {y(0):.1f}"]
    for place, share in enumerate(shares):
        path.append(f"V{y(share):.1f}H{edges[place + 1]:.1f}")
    path.append(f"V{y(0):.1f}")
    return tag("path", d="".join(path), class_="outline")


def _axis(x: Logarithmic, low: float, now: Sequence[Bucket]) -> Sequence[Markup]:
    bottom = HEIGHT - BOTTOM
    parts = [line(x.start, bottom, x.end, bottom, "axis")]
    for tick in x.ticks():
        words = number(tick, 1)
        if tick == low and any(bucket.count and bucket.lower < low for bucket in now):
            words = f"≤ {words}"
        parts.append(line(x(tick), bottom, x(tick), bottom + 4, "axis"))
        parts.append(text(x(tick), bottom + 18, words, "tick", "middle"))
    parts.append(text((x.start + x.end) / 2, HEIGHT - 4, "loss of a row, nats", "tick", "middle"))
    return parts


def _marks(quantiles: Mapping[str, float | None], x: Logarithmic) -> Sequence[Markup]:
    """Return lines at quantiles; a label that would touch the one before stands below it."""
    parts: list[Markup] = []
    free, low = -math.inf, False
    for name, value in quantiles.items():
        if value is None or value <= 0:
            continue
        at = x(value)
        low = at < free and not low
        top = LABELS[low]
        parts.append(line(at, top - 8, at, HEIGHT - BOTTOM, "mark"))
        words = f"{name} {number(value, 3)}"
        taken = text_width(words) + GAP_PX
        if at + taken > x.end + RIGHT:
            parts.append(text(at - 4, top, words, "tick", "end"))
        else:
            parts.append(text(at + 4, top, words, "tick"))
        free = at + taken
    return parts
