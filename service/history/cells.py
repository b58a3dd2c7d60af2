"""What is known of groups of series in buckets of time: an estimate each, and what it lacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import invalid
from service.history import grouping, stack, times
from service.history.grouping import CLASS, Classes, Key
from service.history.metrics import BY_CLASS, STATUS, Estimates, Metric
from service.history.questions import Selection
from service.history.rollups import View
from service.history.selection import Gathered, Series, cover, gather, series_of
from service.history.stack import PENDING, Integers, Stack

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Grid:
    """Buckets: the first one's start and their length, microseconds, and how many there are."""

    start: int
    step: int
    count: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is estimated: a metric, of a selection, for each group; for which classes."""

    selection: Selection
    metric: Metric
    by: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cells:
    """Estimates of groups in buckets, (cells,).

    Attributes:
        keys: of the groups, by their number.
        group: the number of its group.
        bucket: which bucket of the grid.
        estimates: the values.
        nonfinite: whether rows were left out because something of them was not finite.
        partial: whether more of the bucket is to come, or was cut off by the selection.
    """

    keys: list[Key]
    group: Integers
    bucket: Integers
    estimates: Estimates
    nonfinite: Flags
    partial: Flags


def refuse_unless_by_class(metric: Metric, by: Sequence[str]) -> None:
    """Refuse classes of a metric that is none of a class. Raises InvalidDocument."""
    if CLASS in by and metric.of_classes is None:
        known = ", ".join(BY_CLASS)
        raise invalid("/metric", f"{metric.name} is not kept by class; by class there are: {known}")


def cells(view: View, wanted: Wanted, series: Sequence[Series], grid: Grid) -> Cells:
    """Return what is known of the groups of these series in the buckets of a grid."""
    numbers: dict[Key, int] = {}
    of = [numbers.setdefault(grouping.key_of(each, wanted.by), len(numbers)) for each in series]
    groups = np.array(of, np.int64)
    make = _by_class if CLASS in wanted.by else _whole
    return make(view, wanted, series, grid, list(numbers), groups)


def _whole(
    view: View,
    wanted: Wanted,
    series: Sequence[Series],
    grid: Grid,
    keys: list[Key],
    groups: Integers,
) -> Cells:
    columns = dict.fromkeys((*STATUS, *wanted.metric.columns))
    pieces = cover(wanted.selection, series, times.level_of(grid.step))
    found = gather(view, series, pieces, list(columns))
    group, bucket, sums = _folded(found, groups, grid)
    partial = _open(view, wanted.selection, series, grid, bucket)
    flags = _flags(sums.scalars, partial)
    return Cells(keys, group, bucket, wanted.metric.of(sums), *flags)


def _by_class(
    view: View,
    wanted: Wanted,
    series: Sequence[Series],
    grid: Grid,
    keys: list[Key],
    groups: Integers,
) -> Cells:
    classes = Classes.of(view, series)
    asked = wanted.classes or (grouping.TOP_OF_ALL,)
    kept = classes.wanted(asked, lambda: classes.sums(view, wanted.selection, series))
    pieces = cover(wanted.selection, series, times.level_of(grid.step))
    narrow = classes.naming(series, kept)
    found = gather(view, series, pieces, [*STATUS, "classes"], narrow)
    group, bucket, sums = _folded(found, groups, grid)
    pile = sums.piles["classes"]
    group, bucket = group[pile.owner], bucket[pile.owner]
    many = max(1, len(classes.names))
    distinct, number = stack.compact(group * many + pile.key)
    at = wanted.by.index(CLASS)
    named: list[Key] = [
        (*keys[each // many][:at], classes.names[each % many], *keys[each // many][at:])
        for each in distinct.tolist()
    ]
    partial = _open(view, wanted.selection, series, grid, bucket)
    flags = _flags({name: each[pile.owner] for name, each in sums.scalars.items()}, partial)
    if wanted.metric.of_classes is None:
        raise ValueError("the metric is none of a class")
    return Cells(named, number, bucket, wanted.metric.of_classes(pile.records), *flags)


def _folded(found: Gathered, groups: Integers, grid: Grid) -> tuple[Integers, Integers, Stack]:
    """Return the group and the bucket of each cell that holds something, and its sums."""
    at = (found.time - grid.start) // grid.step
    place, index = stack.compact(groups[found.position] * grid.count + at)
    group, bucket = np.divmod(place, grid.count)
    if np.array_equal(index, np.arange(found.sums.count)):
        return group, bucket, found.sums  # one rollup each: there is nothing to add
    return group, bucket, stack.fold(found.sums, index, len(place))


def _flags(scalars: Mapping[str, NDArray[Any]], partial: Flags) -> tuple[Flags, Flags]:
    return scalars["nonfinite"] + scalars["infinite"] > 0, scalars[PENDING] | partial


def _open(
    view: View, selection: Selection, series: Sequence[Series], grid: Grid, bucket: Integers
) -> Flags:
    """Return which buckets are not over, or are cut by the selection where there is more."""
    if not series:
        return np.zeros(0, np.bool_)
    first = min(each.first for each in series)
    last = max(each.last for each in series)
    newest = max(each.last for each in series_of(view))  # the project's: a silent series is over
    start = grid.start + bucket * grid.step
    end = start + grid.step
    unfinished = (start <= newest) & (end > newest + 1)
    if selection.from_ is not None and first < selection.from_:
        unfinished |= start < selection.from_
    if selection.to is not None and last >= selection.to:
        unfinished |= end > selection.to
    return unfinished
