"""How things stand with a rule: its rows, read bucket by bucket, and what they say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from service.errors import InvalidDocument
from service.history import grouping, stack, times
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
from service.history.selection import Series, cover, gather
from service.history.watchable import WATCHABLE

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
        moments: of each bucket.
        start: of the first, microseconds.
        before: how many came before it and are too old to be looked at.
        newest: time of the newest row, microseconds.
    """

    moments: Moments
    start: int
    before: int
    newest: int


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
        target = _target(view, rule, start)
    except InvalidDocument as error:
        # What was recorded since then does not fit the rule any more: two variants, no such class.
        return _unknown(start, str(error))
    if target is None:
        return _unknown(start, "the reference holds too few rows")
    if watched is None:
        return _unknown(start, "no rows yet")
    sign = 1 if rule.direction == "above" else -1
    watch = Watch(target, sign, first=rule.min_rows, shift=rule.shift)
    finding = detect(watched.moments, watch, before=watched.before)
    if finding.suspicion is None:
        return _unknown(start, f"fewer than {rule.min_rows} rows")
    return _told(rule, start, target, watched, finding)


def _told(rule: Rule, start: int, target: Target, watched: Buckets, finding: Finding) -> Standing:
    seen = finding.suspicion
    if seen is None:
        raise TypeError("nothing was found")

    def at(bucket: int) -> int:
        return max(start, watched.start + bucket * rule.step)

    detail = {
        "unit": METRICS[rule.metric].unit,
        "estimate": number(seen.mean),
        "bound": None if seen.bound is None else number(seen.bound),
        "target": number(target.value),
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


def _target(view: View, rule: Rule, start: int) -> Target | None:
    if rule.reference is None:
        return None if rule.threshold is None else Target(rule.threshold, rule.alpha)
    to = start if rule.reference.to is None else rule.reference.to
    selection = _selection(rule, rule.reference.from_, to, rule.reference.model_version)
    found = _read(view, rule, selection)
    if found is None:
        return None
    return reference_target(found.moments, 1 if rule.direction == "above" else -1, rule.alpha)


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
    moments = _moments(view, rule, narrowed, series, start, count - before)
    return Buckets(moments, start, before, end - 1)


def _moments(
    view: View, rule: Rule, selection: Selection, series: list[Series], start: int, count: int
) -> Moments:
    watchable = WATCHABLE[rule.metric]
    asked = rule.selection.class_
    pieces = cover(selection, series, times.level_of(rule.step))
    if asked is None:
        found = gather(view, series, pieces, watchable.columns)
        return watchable.of(stack.fold(found.sums, (found.time - start) // rule.step, count))
    if watchable.of_classes is None:
        raise TypeError("the metric is none of a class")
    classes = Classes.of(view, series)
    kept = classes.wanted([str(asked)], lambda: classes.sums(view, selection, series))
    found = gather(view, series, pieces, ["classes"], classes.naming(series, kept))
    sums = stack.fold(found.sums, (found.time - start) // rule.step, count)
    pile = sums.piles["classes"]
    of_records = watchable.of_classes(pile.records).sums()
    added = (np.bincount(pile.owner, each, minlength=count) for each in of_records)
    return Moments(*(each.astype(np.float64) for each in added))
