"""What watches means: false alarms, how soon true ones come, and how they end."""

import math

import numpy as np
import pytest

from service.history import cusum
from service.history.detection import (
    LOOKBACK,
    Finding,
    Target,
    Watch,
    detect,
    findings,
    reference_target,
)
from service.history.moments import Moments
from tests.service.history.streams import DRAWS, buckets

ALPHA = 0.05
KINDS = ("threshold", "reference", "cusum")
CHANGE = 40


def watch(kind: str, sign: int = 1, reference: Moments | None = None) -> Watch:
    target: Target | None = Target(1.0, ALPHA)
    if kind == "reference":
        assert reference is not None
        target = reference_target(reference, sign, ALPHA)
    assert target is not None
    return Watch(target, sign, first=500, shift=0.1 if kind == "cusum" else None)


def first_alarm(rows: Moments, wanted: Watch) -> int | None:
    """Return the bucket of the first alarm, looking at every one."""
    found = (detect(rows[:end], wanted) for end in range(1, len(rows) + 1))
    return next((each.since for each in found if each.firing), None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ["normal", "lognormal"])
def test_no_change_seldom_raises_an_alarm_at_any_look(kind: str, sign: int, name: str) -> None:
    random = np.random.default_rng(1)
    runs, alarms = 50, 0
    for _ in range(runs):
        reference = buckets(DRAWS[name](random, (40, 50)))
        # Every bucket is looked at; an alarm that ended again leaves its mark in `since`.
        found = detect(buckets(DRAWS[name](random, (100, 50))), watch(kind, sign, reference))
        alarms += found.since is not None
    # Of 50 runs at 5 %, more than 6 come in one of a hundred.
    assert alarms <= 6


@pytest.mark.slow
def test_false_alarms_of_the_cusum_stay_below_the_level() -> None:
    random = np.random.default_rng(2)
    runs, alarms, page = 400, 0, 0
    for _ in range(runs):
        rows = buckets(random.normal(1, 1, (100, 50)))
        alarms += detect(rows, watch("cusum")).since is not None
        steps = cusum.steps(rows.mean - 1, rows.units, 0.1, np.ones(100))
        low = np.minimum.accumulate(np.concatenate([[0], np.cumsum(steps)]))
        page += bool((np.cumsum(steps) - low[:-1] >= math.log(1 / ALPHA)).any())
    assert alarms / runs <= ALPHA
    assert page / runs > 2 * ALPHA  # with one boundary for all starts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DRAWS)
def test_a_change_is_found_soon_and_its_end_too(kind: str, name: str) -> None:
    random = np.random.default_rng(3)
    runs, starts, waits, ends = 8, [], [], []
    for _ in range(runs):
        rows = DRAWS[name](random, (100, 100))
        spread = float(rows.std())
        rows[CHANGE:70] += 0.5 * spread
        reference = buckets(DRAWS[name](random, (60, 100)))
        found = list(findings(buckets(rows), watch(kind, 1, reference)))
        assert not any(each.firing for each in found[:CHANGE])
        alarm = next(each for each in found if each.firing)
        assert alarm.since is not None
        assert alarm.suspicion is not None
        waits.append(alarm.since - CHANGE)
        starts.append(alarm.suspicion.start)
        assert not found[-1].firing
        assert found[-1].since is not None
        ends.append(found[-1].since - 70)
    assert np.median(waits) <= 5
    assert np.median(ends) <= 3
    assert np.median(np.abs(np.array(starts) - CHANGE)) <= 4


def test_the_alarm_is_that_of_the_definition() -> None:
    random = np.random.default_rng(4)
    rows = buckets(random.normal(1.12, 1, (60, 50)))
    wanted = watch("cusum")
    spread = rows.running().spread
    spread[:9] = spread[9]  # 500 rows are there after ten buckets
    shift = np.minimum(0.1, 0.1 * spread)
    steps = 50 * shift / spread**2 * (rows.mean - 1 - shift / 2)
    expected = None
    for end in range(9, 60):
        strengths = [
            steps[start : end + 1].sum() - math.log((start + 1) * (start + 2) / ALPHA)
            for start in range(end - 8)
        ]
        if max(strengths) > 0:
            expected = (end, max(strengths))
            break
    assert expected is not None
    found = detect(rows[: expected[0] + 1], wanted)
    assert found.suspicion is not None
    assert found.since == expected[0]
    assert found.suspicion.strength == pytest.approx(expected[1], rel=1e-9)
    assert first_alarm(rows, wanted) == expected[0]


def test_looking_more_often_changes_nothing() -> None:
    random = np.random.default_rng(5)
    rows = buckets(np.concatenate([random.normal(1, 1, (30, 60)), random.normal(2, 1, (9, 60))]))
    whole = detect(rows, watch("threshold"))
    assert whole.firing
    assert first_alarm(rows, watch("threshold")) == whole.since
    assert [detect(rows[:end], watch("threshold")).firing for end in range(1, 40)] == [
        each.firing for each in findings(rows, watch("threshold"))
    ]


def test_empty_buckets_are_passed_over() -> None:
    random = np.random.default_rng(6)
    rows = np.concatenate([random.normal(1, 1, (20, 60)), random.normal(2, 1, (20, 60))])
    full = buckets(rows)
    sparse = Moments(*(np.zeros(80) for _ in full.sums()))
    for each, kept in zip(sparse.sums(), full.sums(), strict=True):
        each[::2] = kept
    for kind in ("threshold", "cusum"):
        found, expected = detect(sparse, watch(kind)), detect(full, watch(kind))
        assert found.firing
        assert expected.firing
        assert found.since is not None
        assert found.since % 2 == 0
        assert abs(found.since // 2 - (expected.since or 0)) <= 1


def test_few_rows_say_nothing() -> None:
    rows = buckets(np.full((3, 100), 9.0))
    assert detect(rows, watch("threshold")) == Finding(False, None, None)
    assert detect(rows[:0], watch("cusum")) == Finding(False, None, None)
    assert reference_target(rows[:0], 1, ALPHA) is None


def test_rows_that_are_all_alike_beyond_the_target_fire() -> None:
    rows = buckets(np.full((30, 100), 2.0))
    assert detect(rows, watch("threshold")).firing
    assert not detect(buckets(np.full((30, 100), 1.0)), watch("threshold")).firing
    assert not detect(rows, watch("threshold", -1)).firing


def test_older_buckets_cost_certainty() -> None:
    random = np.random.default_rng(7)
    rows = buckets(random.normal(1.3, 1, (20, 60)))
    young = detect(rows, watch("threshold")).suspicion
    old = detect(rows, watch("threshold"), before=LOOKBACK).suspicion
    assert young is not None
    assert old is not None
    assert old.strength < young.strength


def test_a_small_reference_is_not_taken_for_certain() -> None:
    random = np.random.default_rng(8)
    small = reference_target(buckets(random.exponential(1, (10, 20))), 1, ALPHA)
    large = reference_target(buckets(random.exponential(1, (100, 200))), 1, ALPHA)
    assert small is not None
    assert large is not None
    assert small.value - 1 > 2 * (large.value - 1)
    assert small.alpha == ALPHA / 2
    below = reference_target(buckets(random.exponential(1, (100, 200))), -1, ALPHA)
    assert below is not None
    assert below.value < 1
    assert math.isclose(large.spread, 1, rel_tol=0.1)


@pytest.mark.parametrize("kind", ["threshold", "cusum"])
@pytest.mark.parametrize("name", DRAWS)
def test_what_stays_wrong_goes_on_firing(kind: str, name: str) -> None:
    random = np.random.default_rng(9)
    firing = []
    for _ in range(8):
        rows = DRAWS[name](random, (150, 100))
        rows += 0.2 * float(rows.std())
        found = [each.firing for each in findings(buckets(rows), watch(kind))]
        firing.append(np.mean(found[found.index(True) :]))
    assert np.mean(firing) > 0.9
