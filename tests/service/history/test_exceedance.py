"""Quantiles that are watched: false alarms at a hundred looks, true ones, and what rows count."""

import numpy as np
import pytest
from numpy.typing import NDArray

from service.history import exceedance, stack
from service.history.detection import Target, Watch, detect
from service.history.moments import Moments
from service.history.quantiles import SHARES
from service.history.stack import Stack
from service.history.sums import BUCKET
from tests.service.history.histories import UPPER

ALPHA = 0.05
LOOKS = 100
Floats = NDArray[np.float64]


def stacked(losses: Floats) -> Stack:
    """Return the sums of (buckets of time, rows)."""
    rows = []
    for each in losses:
        bucket, count = np.unique(np.searchsorted(UPPER, each), return_counts=True)
        held = np.array(list(zip(bucket, count, strict=True)), BUCKET)
        rows.append([each.min(), each.max(), held.tobytes()])
    return stack.decode(exceedance.COLUMNS, rows)


def quantile_of(share: float) -> float:
    """Return the quantile of the exponential distribution, within a bucket's edges."""
    return float(-np.log(1 - share))


def alarm(sums: Stack, value: float, target: Target, sign: int, share: float) -> int | None:
    watch = Watch(target, sign, first=exceedance.least_rows(share))
    return detect(exceedance.beyond(sums, value, sign), watch).since


@pytest.mark.parametrize("share", SHARES.values())
@pytest.mark.parametrize("sign", [1, -1])
def test_no_change_seldom_raises_an_alarm_at_any_look(share: float, sign: int) -> None:
    """On the edge: the share of rows beyond is the target, and no bucket is cut by it."""
    random = np.random.default_rng(1)
    runs, alarms = 40, 0
    rows = exceedance.least_rows(share) // 5
    target = exceedance.target(share, ALPHA)
    for _ in range(runs):
        hits = random.binomial(rows, 1 - share, LOOKS).astype(float)
        count = np.full(LOOKS, float(rows))
        found = detect(
            Moments(count, hits, count, hits, hits, count),
            Watch(target, sign, first=exceedance.least_rows(share)),
        )
        alarms += found.since is not None
    # Of 40 runs at 5 %, more than 5 come in one of seventy.
    assert alarms <= 5


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("sign", [1, -1])
def test_nor_does_it_against_a_reference(share: float, sign: int) -> None:
    random = np.random.default_rng(2)
    runs, alarms = 30, 0
    rows = exceedance.least_rows(share) // 5
    for _ in range(runs):
        reference = stacked(random.exponential(1, (40, rows)))
        found = exceedance.reference_value(reference, share, sign, ALPHA)
        assert found is not None
        value, target = found
        watched = stacked(random.exponential(1, (LOOKS, rows)))
        alarms += alarm(watched, value, target, sign, share) is not None
    assert alarms <= 4  # of 30 at 5 %, more come in one of sixty


@pytest.mark.parametrize("share", SHARES.values())
@pytest.mark.parametrize(("sign", "factor"), [(1, 2.5), (-1, 0.4)])
def test_a_change_is_found(share: float, sign: int, factor: float) -> None:
    random = np.random.default_rng(3)
    losses = random.exponential(1, (60, exceedance.least_rows(share) // 5))
    losses[20:] *= factor
    sums = stacked(losses)
    limit = quantile_of(share) * (1.1 if sign > 0 else 0.9)
    since = alarm(sums, limit, exceedance.target(share, ALPHA), sign, share)
    assert since is not None
    assert 20 <= since <= 45


def test_only_rows_that_are_certainly_beyond_count() -> None:
    losses = np.array([[0.5, 1.0, 1.5, 2.0], [3.0, 3.0, 3.0, 3.0]])
    sums = stacked(losses)
    above, not_below = (exceedance.beyond(sums, 1.0, sign) for sign in (1, -1))
    assert above.x.tolist() == [2, 4]  # the bucket of 1.0 is not above it
    assert not_below.x.tolist() == [3, 4]
    assert above.w.tolist() == above.rows.tolist() == [4, 4]
    assert above.xx.tolist() == above.xw.tolist() == above.x.tolist()
    for share in SHARES.values():
        exact = np.quantile(losses, share, method="inverted_cdf")
        assert exceedance.quantile(sums, share) == pytest.approx(exact, rel=0.0101)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_reference_bounds_its_quantile(share: float) -> None:
    random = np.random.default_rng(4)
    values = []
    for sign in (1, -1):
        found = [
            exceedance.reference_value(stacked(random.exponential(1, (20, 50))), share, sign, 0.1)
            for _ in range(200)
        ]
        known = [each for each in found if each is not None]
        assert len(known) == 200
        values.append(np.array([value for value, _ in known]))
        assert {target.alpha for _, target in known} == {0.05}
    truth = quantile_of(share)
    # Of 200 bounds at 95 %, fewer than 180 hold in one of a thousand seeds.
    assert (values[0] >= truth).sum() >= 180
    assert (values[1] <= truth).sum() >= 180
    assert np.median(values[0]) < 1.3 * truth


def test_a_small_reference_says_nothing() -> None:
    random = np.random.default_rng(5)
    few = stacked(random.exponential(1, (10, 20)))
    assert exceedance.reference_value(few, 0.99, 1, ALPHA) is None
    assert exceedance.reference_value(few.take(np.zeros(0, np.int64)), 0.5, 1, ALPHA) is None


def test_rarer_quantiles_need_more_rows() -> None:
    assert [exceedance.least_rows(share) for share in SHARES.values()] == [100, 500, 5000]
