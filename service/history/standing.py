"""How things stand with a rule: its rows, read bucket by bucket, and what they say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import numpy as np

from service.errors import InvalidDocument
from service.history import exceedance, grouping, stack, times
from service.history.detection import (
    LOOKBACK,
    Finding,
    Target,
    Watch,
    detect,
    reference_target,
)
from service.history.grouping import Classes
from service.history.metrics import METRICS, number
from service.history.moments import Moments
from service.history.questions import Selection
from service.history.rollups import View
from service.history.rules import Rule
from service.history.selection import Gathered, Series, cover, gather
from service.history.stack import Stack
from service.history.sums import Records
from service.history.watchable import QUANTILES, WATCHABLE

State = Literal["ok", "firing", "no_data"]
STATES: Final[tuple[State, ...]] = ("ok", "firing", "no_data")


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand.

    Attributes:
        state: fires, does not, or cannot be told.
        since: when it came into that state, by the time of the rows; microseconds.
        detail: what the rule saw, as JSON holds it.
    """

    state: State
    since: int
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Buckets:
    """Rows in buckets without gaps, in the order of time.

    Attributes:
        sums: of each bucket.
        start: of the first, microseconds.
        before: how many came before it and are too old to be looked at.
        newest: time of the newest row, microseconds.
    """

    sums: Stack
    start: int
    before: int
    newest: int


@dataclass(frozen=True, slots=True)
class Sought:
    """What a rule looks for.

    Attributes:
        value: what its metric must not lie beyond, in the metric's unit.
        target: what the mean that is watched in its place must not.
        moments: makes that mean of buckets.
        estimate: makes the metric of the rows of some buckets, and that mean of them.
        first: a change needs this many rows to be told.
    """

    value: float
    target: Target
    moments: Callable[[Stack], Moments]
    estimate: Callable[[Stack, float], float]
    first: int


def standing(view: View, rule: Rule, created: int) -> Standing:
    """Return how things stand with a rule.

    Args:
        view: of its project.
        rule: what to watch.
        created: when the rule was made: rows from then on are watched, unless it says otherwise.
    """
    start = created if rule.from_ is None else rule.from_
    try:
        watched = _read(view, rule, _selection(rule, start, None))
        sought = _sought(view, rule, start)
    except InvalidDocument as error:
        # What was recorded since then does not fit the rule any more: two variants, no such class.
        return _unknown(start, str(error))
    if sought is None:
        return _unknown(start, "the reference holds too few rows")
    if watched is None:
        return _unknown(start, "no rows yet")
    watch = Watch(sought.target, _sign(rule), first=sought.first, shift=rule.shift)
    finding = detect(sought.moments(watched.sums), watch, before=watched.before)
    if finding.suspicion is None:
        return _unknown(start, f"fewer than {sought.first} rows")
    return _told(rule, start, sought, watched, finding)


def _told(rule: Rule, start: int, sought: Sought, watched: Buckets, finding: Finding) -> Standing:
    seen = finding.suspicion
    if seen is None:
        raise TypeError("nothing was found")

    def at(bucket: int) -> int:
        return max(start, watched.start + bucket * rule.step)

    rows = watched.sums.take(np.arange(seen.start, seen.end + 1))
    by_mean = rule.metric not in QUANTILES
    detail = {
        "unit": METRICS[rule.metric].unit,
        "estimate": number(sought.estimate(rows, seen.mean)),
        "bound": number(seen.bound) if by_mean and seen.bound is not None else None,
        "target": number(sought.value),
        "rows": seen.rows,
        "from": times.text(at(seen.start)),
        "newest": times.text(watched.newest),
        "reason": None,
    }
    since = start if finding.since is None else at(finding.since)
    return Standing("firing" if finding.firing else "ok", since, detail)


def _unknown(start: int, reason: str) -> Standing:
    nothing = dict.fromkeys(("unit", "estimate", "bound", "target", "rows", "from", "newest"))
    return Standing("no_data", start, {**nothing, "reason": reason})


def _sign(rule: Rule) -> int:
    return 1 if rule.direction == "above" else -1


def _sought(view: View, rule: Rule, start: int) -> Sought | None:
    """Return what a rule looks for; ``None`` where its reference holds too few rows."""
    share = QUANTILES.get(rule.metric)
    found = _limit(view, rule, start)
    if found is None:
        return None
    value, target = found
    if share is None:
        return Sought(value, target, _mean_of(rule), lambda _, mean: mean, rule.min_rows)
    return Sought(
        value,
        target,
        partial(exceedance.beyond, value=value, sign=_sign(rule)),
        lambda rows, _: exceedance.quantile(rows, share),
        max(rule.min_rows, exceedance.least_rows(share)),
    )


def _limit(view: View, rule: Rule, start: int) -> tuple[float, Target] | None:
    share = QUANTILES.get(rule.metric)
    if rule.reference is None:
        if rule.threshold is None:
            return None
        mean = Target(rule.threshold, rule.alpha)
        return rule.threshold, mean if share is None else exceedance.target(share, rule.alpha)
    to = start if rule.reference.to is None else rule.reference.to
    selection = _selection(rule, rule.reference.from_, to, rule.reference.model_version)
    found = _read(view, rule, selection)
    if found is None:
        return None
    if share is not None:
        return exceedance.reference_value(found.sums, share, _sign(rule), rule.alpha)
    target = reference_target(_mean_of(rule)(found.sums), _sign(rule), rule.alpha)
    return None if target is None else (target.value, target)


def _selection(
    rule: Rule, start: int | None, end: int | None, versions: Sequence[str] = ()
) -> Selection:
    wanted = rule.selection
    return Selection.model_construct(
        model=wanted.model,
        model_version=tuple(versions) or wanted.model_version,
        variant=wanted.variant,
        settings=wanted.settings,
        label_schema=wanted.label_schema,
        tags=wanted.tags,
        from_=start,
        to=end,
    )


def _read(view: View, rule: Rule, selection: Selection) -> Buckets | None:
    """Return the newest buckets of a selection; ``None`` where there is no row.

    Raises:
        InvalidDocument: the rows have no unit, or not the class, that the rule speaks of.
    """
    series = grouping.selected(view, selection)
    grouping.refuse_mixed(series, (), METRICS[rule.metric])
    if not series:
        return None
    begin = min(each.first for each in series) if selection.from_ is None else selection.from_
    newest = max(each.last for each in series)
    end = newest + 1 if selection.to is None else min(newest + 1, selection.to)
    first = times.floor(begin, rule.step)
    count = (end - 1 - first) // rule.step + 1
    before = max(0, count - LOOKBACK)
    start = first + before * rule.step
    narrowed = selection.model_copy(update={"from_": max(begin, start)})
    found = _gathered(view, rule, narrowed, series)
    sums = stack.fold(found.sums, (found.time - start) // rule.step, count - before)
    return Buckets(sums, start, before, end - 1)


def _gathered(view: View, rule: Rule, selection: Selection, series: list[Series]) -> Gathered:
    asked = rule.selection.class_
    pieces = cover(selection, series, times.level_of(rule.step))
    if asked is None:
        quantile = rule.metric in QUANTILES
        columns = exceedance.COLUMNS if quantile else WATCHABLE[rule.metric].columns
        return gather(view, series, pieces, columns)
    classes = Classes.of(view, series)
    kept = classes.wanted([str(asked)], lambda: classes.sums(view, selection, series))
    return gather(view, series, pieces, ["classes"], classes.naming(series, kept))


def _mean_of(rule: Rule) -> Callable[[Stack], Moments]:
    watchable = WATCHABLE[rule.metric]
    if rule.selection.class_ is None:
        return watchable.of
    if watchable.of_classes is None:
        raise TypeError("the metric is none of a class")
    return partial(_of_class, watchable.of_classes)


def _of_class(of_classes: Callable[[Records], Moments], sums: Stack) -> Moments:
    pile = sums.piles["classes"]
    added = (
        np.bincount(pile.owner, each, minlength=sums.count)
        for each in of_classes(pile.records).sums()
    )
    return Moments(*(each.astype(np.float64) for each in added))
