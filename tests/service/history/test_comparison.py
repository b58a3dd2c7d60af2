"""Baseline against candidate: against scipy's tests on the rows, and against simulation."""

import math

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from service.history.comparison import Comparison, compare
from service.history.sums import Sums
from tests.service.history.merging import merge
from tests.service.history.sides import Rows, sums_of

ALPHA = 0.05


def gamma(random: np.random.Generator, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return random.gamma(2.0, 0.3, count)


def verdict(found: Comparison) -> str:
    return found.whole.verdict(found.whole.p, found.alpha)


def test_without_names_it_is_welchs_test() -> None:
    random = np.random.default_rng(1)
    one, other = gamma(random, 70), 1.2 * gamma(random, 200)
    found = compare(sums_of(Rows(one)), sums_of(Rows(other))).whole
    expected = stats.ttest_ind(other, one, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.method == "welch"
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.value == pytest.approx(other.mean() - one.mean(), rel=1e-12)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    side = stats.t.interval(0.95, 69, one.mean(), stats.sem(one))
    assert (found.baseline.low, found.baseline.high) == pytest.approx(side, rel=1e-9)


def test_with_names_it_is_near_the_paired_test_of_rows() -> None:
    random = np.random.default_rng(2)
    hard = gamma(random, 2000)
    easier = hard * random.uniform(0.8, 1.15, 2000)
    ids = np.arange(2000)
    shuffled = random.permutation(2000)
    # Posted separately, in another order, in two parts.
    other = Rows(easier, ids)[shuffled]
    candidate = merge([sums_of(other[np.arange(700)]), sums_of(other[np.arange(700, 2000)])])
    found = compare(sums_of(Rows(hard, ids)), candidate).whole
    interval = stats.ttest_rel(easier, hard).confidence_interval(0.95)
    assert found.method == "paired_poisson_bootstrap"
    assert found.value == pytest.approx((easier - hard).mean(), rel=1e-9)
    # 128 replicates know a standard error to 6 %.
    width = interval.high - interval.low
    assert found.high - found.low == pytest.approx(width, rel=0.25)
    unpaired = compare(sums_of(Rows(hard)), sums_of(Rows(easier))).whole
    assert unpaired.high - unpaired.low > 4 * width
    assert verdict(compare(sums_of(Rows(hard, ids)), candidate)) == "better"


def test_the_same_rows_in_another_order_are_no_difference() -> None:
    random = np.random.default_rng(3)
    rows = Rows(gamma(random, 500), np.arange(500), random.uniform(0.5, 2, 500))
    whole = sums_of(rows)
    parts = merge([sums_of(rows[np.arange(start, 500, 3)]) for start in range(3)])
    found = compare(whole, parts)
    assert verdict(found) == "no_difference"
    assert found.whole.p > 0.2
    assert compare(whole, whole).whole.p == 1
    assert compare(whole, whole).whole.value == 0
    assert found.overlap.estimate == 1


@pytest.mark.parametrize("named", [True, False])
def test_intervals_hold_and_tests_find_nothing_where_nothing_is(named: bool) -> None:
    random = np.random.default_rng(4)
    runs, held, found = 500, 0, 0
    for run in range(runs):
        hard = gamma(random, 100)
        ids = np.arange(100) + 1000 * run if named else None
        other = hard * random.uniform(0.5, 1.5, 100) if named else gamma(random, 100)
        whole = compare(sums_of(Rows(hard, ids)), sums_of(Rows(other, ids))).whole
        held += whole.low <= 0 <= whole.high
        found += whole.p <= ALPHA
    assert 0.925 <= held / runs <= 0.975
    assert found == runs - held


def test_pairing_finds_more() -> None:
    random = np.random.default_rng(5)
    runs, paired, unpaired = 60, 0, 0
    for run in range(runs):
        hard = gamma(random, 200)
        worse = hard * random.uniform(0.8, 1.3, 200)
        ids = np.arange(200) + 1000 * run
        paired += compare(sums_of(Rows(hard, ids)), sums_of(Rows(worse, ids))).whole.p <= ALPHA
        unpaired += compare(sums_of(Rows(hard)), sums_of(Rows(worse))).whole.p <= ALPHA
    assert paired >= 0.95 * runs
    assert unpaired <= 0.5 * runs


def test_clusters_count_once() -> None:
    random = np.random.default_rng(6)
    runs, known, ignored = 200, 0, 0
    clusters = np.repeat(np.arange(60), 10)
    for run in range(runs):
        sides = []
        for side in range(2):
            loss = np.repeat(gamma(random, 60), 10) + random.normal(0, 0.05, 600)
            offset = 100_000 * (2 * run + side)
            sides.append(Rows(loss, np.arange(600) + offset, clusters=clusters + offset))
        known += compare(sums_of(sides[0]), sums_of(sides[1])).whole.p <= ALPHA
        ignored += compare(sums_of(Rows(sides[0].loss)), sums_of(Rows(sides[1].loss))).whole.p <= (
            ALPHA
        )
    assert known / runs <= 0.09
    assert ignored / runs > 0.3


def test_a_single_cluster_tells_nothing() -> None:
    loss = np.linspace(0.1, 2, 400)
    same = np.zeros(400, np.int64)
    one = sums_of(Rows(loss, np.arange(400), clusters=same))
    other = sums_of(Rows(loss + 1, np.arange(400), clusters=same))
    found = compare(one, other)
    assert verdict(found) == "insufficient"
    assert math.isnan(found.whole.low)
    assert found.whole.value == pytest.approx(1)


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("named", [True, False])
def test_few_rows_tell_nothing(count: int, named: bool) -> None:
    few = Rows(np.linspace(1, 2, count), np.arange(count) if named else None)
    many = Rows(np.linspace(0, 1, 300), np.arange(300) if named else None)
    assert verdict(compare(sums_of(few), sums_of(many))) == "insufficient"
    assert verdict(compare(sums_of(many), sums_of(few))) == "insufficient"


def test_a_constant_difference_is_certain() -> None:
    loss = np.linspace(0, 1, 300)
    ids = np.arange(300)
    found = compare(sums_of(Rows(loss, ids)), sums_of(Rows(loss + 0.25, ids))).whole
    assert found.p < 1e-12
    assert (found.low, found.high) == pytest.approx((0.25, 0.25), abs=1e-9)


def test_classes_are_tested_together() -> None:
    random = np.random.default_rng(7)
    label = np.repeat(np.arange(4), 150)
    hard = gamma(random, 600)
    other = hard * random.uniform(0.9, 1.1, 600)
    other[label == 2] *= 1.2
    ids = np.arange(600)
    few = np.arange(600) >= 140  # of class 0 ten rows are left
    found = compare(
        sums_of(Rows(hard, ids, label=label)[few]), sums_of(Rows(other, ids, label=label)[few])
    )
    by_class = {each.index: each for each in found.classes}
    verdicts = {
        index: each.difference.verdict(each.p_adjusted, ALPHA) for index, each in by_class.items()
    }
    assert verdicts == {0: "insufficient", 1: "no_difference", 2: "worse", 3: "no_difference"}
    assert all(each.difference.method == "paired_poisson_bootstrap" for each in found.classes)
    # Benjamini and Hochberg, from the definition.
    ps = sorted((by_class[index].difference.p, index) for index in (1, 2, 3))
    smallest = 1.0
    for rank, (p, index) in reversed(list(enumerate(ps, start=1))):
        smallest = min(smallest, p * 3 / rank)
        assert by_class[index].p_adjusted == pytest.approx(smallest, rel=1e-12)


def test_false_discoveries_among_classes_are_few() -> None:
    random = np.random.default_rng(8)
    runs, discovered, by_themselves = 150, 0, 0
    label = np.repeat(np.arange(10), 60)
    for run in range(runs):
        hard = gamma(random, 600)
        other = hard * random.uniform(0.5, 1.5, 600)
        ids = np.arange(600) + 1000 * run
        found = compare(
            sums_of(Rows(hard, ids, label=label), classes=10),
            sums_of(Rows(other, ids, label=label), classes=10),
        )
        discovered += any(each.p_adjusted <= ALPHA for each in found.classes)
        by_themselves += any(each.difference.p <= ALPHA for each in found.classes)
    assert discovered / runs <= 0.1
    assert by_themselves / runs > 0.25


def test_a_class_that_one_side_lacks_is_there_without_a_verdict() -> None:
    loss = np.linspace(0, 1, 100)
    ids = np.arange(100)
    zeros, ones = np.zeros(100, np.int64), np.ones(100, np.int64)
    found = compare(
        sums_of(Rows(loss, ids, label=zeros)), sums_of(Rows(loss, ids + 100, label=ones))
    )
    assert [each.index for each in found.classes] == [0, 1]
    assert all(math.isnan(each.p_adjusted) for each in found.classes)
    assert math.isnan(found.classes[0].difference.candidate.mean)
    assert found.classes[0].difference.baseline.rows == 100


def test_nothing_against_nothing() -> None:
    found = compare(Sums(), Sums())
    assert verdict(found) == "insufficient"
    assert found.overlap.basis == "none"


def overlapping(one: range, other: range) -> Comparison:
    sides = (sums_of(Rows(np.ones(len(ids)), np.array(ids))) for ids in (one, other))
    return compare(*sides)


def test_overlap_is_exact_where_all_names_are_kept() -> None:
    found = overlapping(range(100), range(50, 250)).overlap
    assert (found.estimate, found.basis, found.samples) == (0.5, "exact", 250)
    assert found.jaccard == pytest.approx(50 / 250)
    assert overlapping(range(40), range(40, 100)).overlap.estimate == 0


@pytest.mark.parametrize("shared", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("larger", [1, 3])
def test_overlap_is_estimated_from_sketches(shared: float, larger: int) -> None:
    start = round(20_000 * (1 - shared))
    found = overlapping(range(20_000), range(start, start + 20_000 * larger)).overlap
    true = 1.0 if larger == 3 and shared == 1.0 else shared
    assert found.basis == "sketch"
    # A share of n names is known to sqrt(share (1 - share) / n); of the smaller side, 512 / 3.
    assert found.estimate == pytest.approx(true, abs=0.12)
    assert 300 < found.samples <= 1024
