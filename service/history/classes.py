"""Classes beside each other: a table, what changed against a reference, and a map over time."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import numpy as np
from pydantic import BeforeValidator, Field, WithJsonSchema

from service.errors import invalid
from service.history import grouping, intervals, metrics, times
from service.history.cells import Cells, Grid, Wanted, cells
from service.history.grouping import CLASS, Classes, heaviest
from service.history.intervals import Floats
from service.history.metrics import METRICS, number, numbers
from service.history.questions import Names, Referring
from service.history.rollups import View
from service.history.selection import Series, span
from service.history.stack import Integers, Pile
from service.history.sums import CLASS as RECORD
from service.history.sums import Records

AUTO: Final = 0
LISTED: Final = "top:100"
MOST_ENTRIES: Final = 100_000
_LOSS: Final = METRICS["loss.mean"]


def _step(value: str) -> int:
    return AUTO if value == "auto" else times.parse_step(value)


MapStep = Annotated[
    int | None,
    BeforeValidator(_step),
    WithJsonSchema({"type": "string", "pattern": "^(auto|[1-9][0-9]{0,5}[mhd])$"}),
]


class Question(Referring):
    """Which classes, and against what."""

    class_: Names = Field(
        (), alias="class", description="Names, indexes, or top:N by sum of the loss (top:100)."
    )
    step: MapStep = Field(
        None, description="Asks for the map too, in buckets of 15m, 6h, 1d, or auto."
    )
    max_points: int = Field(60, ge=1, le=1000, description="Most buckets of step=auto.")


def answer(view: View, question: Question) -> dict[str, Any]:
    """Return a row for each class, that of the largest sum of the loss first.

    Raises:
        InvalidDocument: the selection would put different units together.
    """
    reference = question.reference()
    series = grouping.selected(view, question)
    before = [] if reference is None else grouping.selected(view, reference)
    together = list({each.id: each for each in (*series, *before)}.values())
    grouping.refuse_mixed(together, (), _LOSS)
    classes = Classes.of(view, together)
    sums = classes.sums(view, question, series)
    wanted = classes.wanted(question.class_ or (LISTED,), lambda: sums)
    listed = heaviest(sums)
    listed = listed[wanted[listed]]
    records = _aligned(sums, listed)
    names = [classes.names[each] for each in listed.tolist()]
    columns = {"class": names, **_columns(records, sums.records)}
    base = records
    if reference is not None:
        base = _aligned(classes.sums(view, reference, before), listed)
        columns |= _changes(records, base)
    start, end = span(question, series)
    return {
        "project": view.project,
        "revision": view.revision,
        "from": times.text(start),
        "to": times.text(end),
        "classes": len(classes.names),
        "rows": [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ],
        "map": None if question.step is None else _map(view, question, series, names, base),
    }


def _aligned(sums: Pile, keys: Integers) -> Records:
    """Return the records of these keys; nothing where there is none."""
    records = np.zeros(len(keys), RECORD)
    known = np.isin(keys, sums.key)
    records[known] = sums.records[np.searchsorted(sums.key, keys[known])]
    return records


def _columns(records: Records, everything: Records) -> dict[str, Sequence[object]]:
    """Return what the table says of classes; shares are of all classes, listed or not."""
    loss, recall, norm = (
        _estimates(name, records) for name in ("loss.mean", "recall", "gradient_norm.mean")
    )
    return {
        "support": records["support"].tolist(),
        "positives": records["positives"].tolist(),
        "predicted": records["predicted"].tolist(),
        "loss_mean": numbers(loss.value),
        "loss_low": numbers(loss.low),
        "loss_high": numbers(loss.high),
        "loss_share": _shares(records, everything, "loss_sum"),
        "gradient_norm_mean": numbers(norm.value),
        "gradient_share": _shares(records, everything, "gradient_norm_sum"),
        "recall": numbers(recall.value),
        "recall_low": numbers(recall.low),
        "recall_high": numbers(recall.high),
    }


def _changes(records: Records, before: Records) -> dict[str, Sequence[object]]:
    """Return what changed since the reference: its values, and how much more they are now."""
    loss, old = _estimates("loss.mean", records), _estimates("loss.mean", before)
    change, (low, high) = intervals.difference(
        old.value,
        metrics.class_loss_error(before),
        loss.value,
        metrics.class_loss_error(records),
    )
    recall, recalled = _estimates("recall", records), _estimates("recall", before)
    turn, (least, most) = intervals.difference(
        recalled.value,
        intervals.half_width(recalled.low, recalled.high),
        recall.value,
        intervals.half_width(recall.low, recall.high),
    )
    return {
        "reference_support": before["support"].tolist(),
        "reference_loss_mean": numbers(old.value),
        "loss_change": numbers(change),
        "loss_change_low": numbers(low),
        "loss_change_high": numbers(high),
        "reference_recall": numbers(recalled.value),
        "recall_change": numbers(turn),
        "recall_change_low": numbers(least),
        "recall_change_high": numbers(most),
    }


def _map(
    view: View, question: Question, series: Sequence[Series], names: list[str], base: Records
) -> dict[str, Any]:
    """Return the mean loss of the listed classes over time, and its change against their base.

    The base is the reference, or the whole selection where there is none.
    """
    start, end = span(question, series)
    step = question.step or times.auto_step(end - start, question.max_points)
    first = times.floor(start, step)
    grid = Grid(first, step, (end - 1 - first) // step + 1)
    if grid.count * len(names) > MOST_ENTRIES:
        raise invalid(
            "/step",
            f"{grid.count} buckets of {len(names)} classes are more than {MOST_ENTRIES} entries: "
            "ask for longer steps or fewer classes",
        )
    found = cells(view, Wanted(question, _LOSS, (CLASS,), tuple(names)), series, grid)
    losses = _matrix(found, found.estimates.value, names, grid)
    support = np.nan_to_num(_matrix(found, found.estimates.rows, names, grid)).astype(np.int64)
    usual = _estimates("loss.mean", base).value
    return {
        "step_s": step // times.SECOND,
        "time": [times.text(first + at * step) for at in range(grid.count)],
        "class": names,
        "base": numbers(usual),
        "loss_mean": [numbers(row) for row in losses],
        "change": [numbers(row) for row in losses - usual[:, None]],
        "support": support.tolist(),
    }


def _matrix(found: Cells, values: Floats, names: Sequence[str], grid: Grid) -> Floats:
    """Return values of cells as (classes, buckets)."""
    place = {name: row for row, name in enumerate(names)}
    rows = np.array([place[str(key[0])] for key in found.keys], np.int64)
    matrix = np.full((len(names), grid.count), np.nan)
    if len(found.group):
        matrix[rows[found.group], found.bucket] = values
    return matrix


def _estimates(name: str, records: Records) -> metrics.Estimates:
    of = METRICS[name].of_classes
    if of is None:
        raise ValueError(f"{name} is none of a class")
    return of(records)


def _shares(records: Records, everything: Records, name: str) -> list[float | None]:
    total = float(everything[name].sum())
    return [number(each / total) if total else None for each in records[name].tolist()]
