"""A metric over time, for each group: merged from sums, never sampled."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from service.errors import invalid
from service.history import grouping, times
from service.history.cells import Cells, Grid, Wanted, cells, refuse_unless_by_class
from service.history.grouping import Key
from service.history.intervals import Floats
from service.history.metrics import METRICS, numbers
from service.history.questions import Names, Selection, parts
from service.history.rollups import View
from service.history.selection import span

MOST_ROWS: Final = 100_000
STATUSES: Final = ("ok", "low_n", "empty", "partial", "nonfinite")


def _metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"no such metric; known: {', '.join(METRICS)}")
    return name


def _step(value: str) -> int | None:
    return None if value == "auto" else times.parse_step(value)


MetricName = Annotated[
    str,
    AfterValidator(_metric),
    WithJsonSchema({"type": "string", "enum": list(METRICS), "default": "loss.mean"}),
]
Step = Annotated[
    int | None,
    BeforeValidator(_step),
    WithJsonSchema({"type": "string", "pattern": "^(auto|[1-9][0-9]{0,5}[mhd])$"}),
]
Dimension = Annotated[str, AfterValidator(grouping.known_dimension)]
By = Annotated[tuple[Dimension, ...], BeforeValidator(parts), Field(max_length=6)]


class Question(Selection):
    """What is drawn."""

    metric: MetricName = Field("loss.mean", description="What is drawn.")
    by: By = Field(
        (),
        description="One line for each: model, model_version, variant, settings, label_schema, "
        "tag.KEY, class. Repeated, or with commas.",
    )
    class_: Names = Field(
        (),
        alias="class",
        description="With by=class: names, indexes, or top:N by sum of the loss (default top:10).",
    )
    step: Step = Field(
        None, description="Length of a bucket: 15m, 6h, 1d; auto: by `max_points` (default)."
    )
    max_points: int = Field(300, ge=1, le=10_000, description="Most buckets of step=auto.")
    min_rows: int = Field(1, ge=1, description="With fewer rows a value has the status low_n.")


def answer(view: View, question: Question) -> dict[str, Any]:
    """Return a row for every bucket of every group, from its first to its last.

    Raises:
        InvalidDocument: the groups would put different units together, the metric is none of
            a class, or the answer would be too long.
    """
    metric = METRICS[question.metric]
    refuse_unless_by_class(metric, question.by)
    series = grouping.selected(view, question)
    grouping.refuse_mixed(series, question.by, metric)
    start, end = span(question, series)
    grid = _grid(question, start, end)
    found = cells(view, Wanted(question, metric, question.by, question.class_), series, grid)
    return {
        "project": view.project,
        "revision": view.revision,
        "metric": metric.name,
        "unit": metric.unit,
        "by": list(question.by),
        "from": times.text(start),
        "to": times.text(end),
        "step_s": grid.step // times.SECOND,
        "rows": list(_rows(question, grid, found)),
    }


def _grid(question: Question, start: int, end: int) -> Grid:
    step = question.step or times.auto_step(end - start, question.max_points)
    first = times.floor(start, step)
    grid = Grid(first, step, (end - 1 - first) // step + 1)
    _refuse_long(grid.count)
    return grid


def _refuse_long(rows: int) -> None:
    if rows > MOST_ROWS:
        raise invalid(
            "/step",
            f"the answer would have {rows} rows, more than {MOST_ROWS}: ask for longer "
            "steps, a shorter time or fewer groups",
        )


def _rows(question: Question, grid: Grid, cells: Cells) -> Iterator[dict[str, Any]]:
    """Yield rows by time, then by keys; buckets of a group that hold nothing are rows too."""
    if not len(cells.group):
        return
    # Groups get numbers in the order of their keys; no key comes before the others.
    order = sorted(range(len(cells.keys)), key=lambda at: _sortable(cells.keys[at]))
    rank = np.argsort(np.array(order))
    group = rank[cells.group]
    first = np.full(len(order), grid.count)
    last = np.full(len(order), -1)
    np.minimum.at(first, group, cells.bucket)
    np.maximum.at(last, group, cells.bucket)
    lengths = np.maximum(last - first + 1, 0)
    _refuse_long(int(lengths.sum()))
    before = np.cumsum(lengths) - lengths
    groups = np.repeat(np.arange(len(order)), lengths)
    buckets = np.arange(len(groups)) - np.repeat(before - first, lengths)
    place = before[group] + cells.bucket - first[group]
    sequence = np.lexsort((groups, buckets))

    def column(values: Floats, absent: float) -> list[Any]:
        whole = np.full(len(groups), absent)
        whole[place] = values
        return numbers(whole[sequence])

    estimates = cells.estimates
    columns = [column(each, np.nan) for each in (estimates.value, estimates.low, estimates.high)]
    counts = column(estimates.rows, 0)
    status = column(_statuses(cells, question.min_rows), STATUSES.index("empty"))
    starts = [times.text(grid.start + at * grid.step) for at in range(grid.count)]
    keys = [dict(zip(question.by, cells.keys[at], strict=True)) for at in order]
    for at, bucket, value, low, high, state, rows in zip(
        *(groups[sequence].tolist(), buckets[sequence].tolist(), *columns, status, counts),
        strict=True,
    ):
        yield {
            "time": starts[bucket],
            **keys[at],
            "value": value,
            "low": low,
            "high": high,
            "status": STATUSES[int(state)],
            "rows": int(rows),
        }


def _statuses(cells: Cells, min_rows: int) -> Floats:
    """Return the place of each cell's status in :data:`STATUSES`: the first that applies."""
    applies = {
        "empty": np.isnan(cells.estimates.value),
        "low_n": cells.estimates.rows < min_rows,
        "nonfinite": cells.nonfinite,
        "partial": cells.partial,
    }
    places = [STATUSES.index(name) for name in applies]
    return np.select(list(applies.values()), places, STATUSES.index("ok")).astype(np.float64)


def _sortable(key: Key) -> list[tuple[bool, str]]:
    return [(part is not None, part or "") for part in key]
