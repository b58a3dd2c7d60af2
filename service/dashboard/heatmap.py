"""Classes by time: how far each is from its own reference, in colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from service.dashboard.svg import fitted, line, picture, tag, text, text_width
from service.dashboard.wording import change, count, number, short_moment

ROW_PX: Final = 22
TOP, BOTTOM, RIGHT = 6, 26, 8
LABEL_SHARE: Final = 0.3  # of the width, at most
LABEL_GAP_PX: Final = 10
TICK_GAP_PX: Final = 14
NARROW_PX: Final = 4  # cells below have no gap between them
# A step of colour is a ratio, the same up and down: a loss that doubles and one that halves are
# equally far from the middle.
STEPS: Final = (1.05, 1.1, 1.25, 1.5, 2.0)


@dataclass(frozen=True, slots=True)
class Cell:
    """One class in one bucket of time: the value, and its ratio to the reference."""

    value: float | None
    ratio: float | None
    rows: int


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One class, over all buckets."""

    name: str
    cells: Sequence[Cell]


def colour(ratio: float | None) -> str:
    """Return the class of a colour: ``d-5`` (half or less) to ``d0`` to ``d5`` (double or more)."""
    if ratio is None:
        return "d-none"
    if ratio <= 0:
        return f"d-{len(STEPS)}"
    further = max(ratio, 1 / ratio)
    step = sum(further >= each for each in STEPS)
    return f"d{step if ratio >= 1 or not step else -step}"


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where the cells are: buckets of ``step_us`` from ``left`` on, each ``cell`` pixels wide."""

    times: Sequence[int]
    step_us: int
    left: float
    cell: float

    def moment(self, at: int) -> str:
        return short_moment(self.times[at], self.step_us)


def heatmap(rows: Sequence[HeatRow], times: Sequence[int], *, step_us: int, width: float) -> Markup:
    """Return the chart.

    Args:
        rows: from the top, each with one cell for each time.
        times: starts of the buckets, microseconds.
        step_us: their length.
        width: pixels.
    """
    widest = max((text_width(row.name) for row in rows), default=0)
    left = min(widest, width * LABEL_SHARE) + LABEL_GAP_PX
    grid = _Grid(times, step_us, left, (width - left - RIGHT) / max(1, len(times)))
    bottom = TOP + len(rows) * ROW_PX
    parts: list[Markup] = []
    for place, row in enumerate(rows):
        top = TOP + place * ROW_PX
        parts.append(_name(row.name, left, top))
        parts += [_cell(row, at, grid, top) for at in range(len(times))]
    parts += _axis(grid, bottom)
    label = f"Heatmap of {len(rows)} classes over {len(times)} intervals"
    return picture(width, bottom + BOTTOM, label, *parts)


def _name(name: str, left: float, top: float) -> Markup:
    return tag(
        "text",
        tag("title", name),
        fitted(name, left - LABEL_GAP_PX),
        x=left - 6,
        y=top + 15,
        class_="label",
        text_anchor="end",
    )


def _cell(row: HeatRow, at: int, grid: _Grid, top: float) -> Markup:
    cell = row.cells[at]
    said = "no rows"
    if cell.value is not None:
        said = f"{number(cell.value)} ({change(cell.ratio)}), {count(cell.rows)} rows"
    gap = 1.0 if grid.cell > NARROW_PX else 0.0
    return tag(
        "rect",
        tag("title", f"{row.name}, {grid.moment(at)}: {said}"),
        x=grid.left + at * grid.cell,
        y=top,
        width=max(0.5, grid.cell - gap),
        height=ROW_PX - 1,
        class_=colour(cell.ratio),
    )


def _axis(grid: _Grid, bottom: float) -> Sequence[Markup]:
    """Return the times below, as many as fit beside each other."""
    parts: list[Markup] = []
    end = grid.left + len(grid.times) * grid.cell + RIGHT
    free = 0.0
    for at in range(len(grid.times)):
        x, words = grid.left + at * grid.cell, grid.moment(at)
        if x < free or x + text_width(words) > end:
            continue
        parts.append(line(x, bottom, x, bottom + 4, "axis"))
        parts.append(text(x, bottom + 18, words, "tick"))
        free = x + text_width(words) + TICK_GAP_PX
    return parts
