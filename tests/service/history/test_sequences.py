"""Confidence sequences: against the martingale that they come from, and against simulation."""

import math

import numpy as np
import pytest
from scipy import integrate, stats  # type: ignore[import-untyped]

from service.history.moments import dispersion
from service.history.sequences import one_sided, running, tuning, two_sided
from tests.service.history.streams import DRAWS, buckets

ALPHA = 0.05


def mixture(deviation: float, variance: float, rho: float, *, half: bool) -> float:
    """Return the mixture of exp(l S - l^2 V / 2) over l ~ N(0, rho^2), by quadrature."""

    def density(slope: float) -> float:
        weight = stats.norm.pdf(slope, scale=rho) * (2 if half else 1)
        return float(weight * math.exp(slope * deviation - slope**2 * variance / 2))

    peak = deviation / variance
    width = 12 / math.sqrt(variance + rho**-2)
    low = max(0.0, peak - width) if half else peak - width
    return float(integrate.quad(density, low, peak + width, limit=200)[0])


@pytest.mark.parametrize("units", [50, 500, 20_000])
@pytest.mark.parametrize("alpha", [0.05, 1e-4])
def test_bounds_are_where_the_martingale_reaches_its_limit(units: int, alpha: float) -> None:
    rho = tuning(500, ALPHA)
    error = math.sqrt(units)
    both = error * float(two_sided(np.array(float(units)), alpha, rho))
    assert mixture(both, units, rho, half=False) == pytest.approx(1 / alpha, rel=1e-6)
    upper = error * float(one_sided(np.array(float(units)), alpha, rho))
    reached = mixture(upper, units, rho, half=True)
    assert 1 / alpha <= reached <= 1.1 / alpha
    assert upper < both


def test_tiny_levels_have_bounds() -> None:
    units = np.array([100.0, 1e9])
    assert np.isfinite(one_sided(units, 1e-300, 0.1)).all()
    assert (one_sided(units, 1e-300, 0.1) < two_sided(units, 1e-300, 0.1)).all()


def test_tuning_is_near_the_narrowest() -> None:
    units = np.array(1000.0)
    best = min(float(two_sided(units, ALPHA, rho)) for rho in np.geomspace(1e-3, 10, 2000))
    assert float(two_sided(units, ALPHA, tuning(1000, ALPHA))) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("name", DRAWS)
def test_the_mean_is_held_at_all_of_100_looks(name: str) -> None:
    random = np.random.default_rng(1)
    runs, missed, peeked = 400, 0, 0
    for _ in range(runs):
        rows = buckets(DRAWS[name](random, (100, 50)))
        low, high = running(rows, ALPHA, first=500)
        missed += bool(((low > 1) | (high < 1)).any())
        so_far = rows.running()
        peeked += bool((np.abs(so_far.mean - 1) > 1.96 * so_far.error)[10:].any())
    assert missed / runs <= ALPHA
    assert peeked / runs > 0.15  # what intervals for one look do


def test_a_wrong_mean_is_excluded_in_the_end() -> None:
    random = np.random.default_rng(2)
    low, high = running(buckets(random.exponential(1, (200, 100))), ALPHA)
    width = high - low
    assert (low[-1] > 0.9) & (high[-1] < 1.1)
    assert width[-1] < width[20] / 2


def test_before_the_first_look_nothing_is_said() -> None:
    low, high = running(buckets(np.ones((4, 50)) * [[1], [2], [1], [2]]), ALPHA, first=150)
    assert np.isinf(low[:2]).all()
    assert np.isinf(high[:2]).all()
    assert np.isfinite(low[2:]).all()


def test_weights_count() -> None:
    random = np.random.default_rng(3)
    rows = random.exponential(1, (20, 50))
    weights = random.choice([0.5, 2.0], (20, 50))
    found = buckets(rows, weights).total()
    assert float(found.mean) == pytest.approx(np.average(rows, weights=weights))
    units = weights.sum() ** 2 / (weights**2).sum()
    assert float(found.units) == pytest.approx(units)
    off = (weights * (rows - float(found.mean))) ** 2
    error = math.sqrt(off.sum() * units / (units - 1)) / weights.sum()
    assert float(found.error) == pytest.approx(error)
    plain = buckets(rows).total()
    assert float(plain.error) == pytest.approx(stats.sem(rows.ravel()))


def test_dispersion_tells_buckets_that_differ() -> None:
    random = np.random.default_rng(4)
    rows = random.exponential(1, (200, 50))
    assert dispersion(buckets(rows)) == pytest.approx(1, abs=0.25)
    hours = rows + random.normal(0, 0.3, (200, 1))
    # A mean of 50 rows varies by 1/50, and by 0.09 more.
    assert dispersion(buckets(hours)) == pytest.approx(1 + 0.09 * 50, rel=0.3)
    assert dispersion(buckets(hours[:5])) == 1
    assert dispersion(buckets(np.ones((20, 5)))) == 1
