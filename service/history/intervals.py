"""Confidence intervals from sums, of many estimates at once. Every array is (estimates,), float64.

Where sums say too little for an interval, its ends are NaN. All are two-sided, at :data:`LEVEL`.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
Interval = tuple[Floats, Floats]

LEVEL: Final = 0.95
_TAIL: Final = (1 - LEVEL) / 2
_MANY: Final = 10.0  # the binomial of this deviation is as good as normal
_Z: Final = float(special.ndtri(1 - _TAIL))


def wilson(hits: Floats, count: Floats) -> Interval:
    """Return the interval of a proportion.

    Unlike hits/n +- z s it holds for proportions near 0 and 1 and for few rows. Source: Wilson,
    Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = hits / count
        scale = 1 + _Z**2 / count
        centre = (share + _Z**2 / (2 * count)) / scale
        half = _Z / scale * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    # At the ends the two halves cancel but for rounding.
    low = np.where(hits == 0, 0.0, centre - half)
    high = np.where(hits == count, 1.0, centre + half)
    return _where(count > 0, low, high)


def ratio_error(count: Floats, x: Floats, w: Floats, *, squares: tuple[Floats, ...]) -> Floats:
    """Return the standard error of sum x / sum w over rows (x, w), by the delta method.

    ``sqrt(n/(n-1) sum (x - R w)^2) / sum w`` with R the ratio: the error of a mean where all w
    are 1. Source: Cochran, Sampling Techniques, 3rd ed. (1977), section 6.3.

    Args:
        count: n, rows; NaN for fewer than 2.
        x: sum of x.
        w: sum of w.
        squares: sums of x^2, x w and w^2.
    """
    xx, xw, ww = squares
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = x / w
        # Not below 0, which rounding may do where all rows are the same.
        residual = np.maximum(xx - 2 * ratio * xw + ratio**2 * ww, 0.0)
        error = np.sqrt(count / (count - 1) * residual) / np.abs(w)
    return np.where(count > 1, error, np.nan)


def replicated_error(ratio: Floats, x: Floats, w: Floats) -> Floats:
    """Return the standard error of a ratio of sums from its Poisson bootstrap replicates.

    Where rows of one cluster were drawn together, it knows that they are alike, which
    :func:`ratio_error` does not. Source: Chamandy et al., Estimating uncertainty for massive data
    streams, Google (2012).

    Args:
        ratio: of all rows.
        x: sum of x in each replicate, (estimates, replicates).
        w: sum of w in each replicate.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = (x / w - ratio[:, None]) ** 2
    drawn = np.isfinite(squares)  # of few rows a replicate may have drawn none
    count = drawn.sum(axis=1)
    total = np.where(drawn, squares, 0.0).sum(axis=1)
    return np.where(count > 1, np.sqrt(total / np.maximum(count, 1)), np.nan)


def around(value: Floats, error: Floats, count: Floats) -> Interval:
    """Return value +- t error, t of n - 1 degrees of freedom.

    The error is itself estimated from n rows: with few of them, the normal quantile would claim too
    much; with many, they are the same.
    """
    half = special.stdtrit(np.maximum(count - 1, 1), 1 - _TAIL) * error
    return _where(count > 1, value - half, value + half)


def difference(a: Floats, a_error: Floats, b: Floats, b_error: Floats) -> tuple[Floats, Interval]:
    """Return b - a of independent estimates, and its interval, by the normal quantile."""
    half = _Z * np.hypot(a_error, b_error)
    return b - a, (b - a - half, b - a + half)


def half_width(low: Floats, high: Floats) -> Floats:
    """Return the standard error that an interval of :func:`wilson` amounts to."""
    return (high - low) / (2 * _Z)


def quantile_ranks(count: Floats, share: float) -> Interval:
    """Return the ranks, from 1, of the two rows between which a quantile lies.

    No assumption about the distribution: the number of rows below the quantile is binomial. Rank 0
    and rank n + 1 mean that there are too few rows for that end. With many rows the binomial is
    taken as normal, rounded outwards: a rank or two of hundreds. Source: Conover, Practical
    Nonparametric Statistics, 3rd ed. (1999), section 3.2.
    """
    deviation = np.sqrt(count * share * (1 - share))
    low = np.floor(count * share - _Z * deviation)
    high = np.ceil(count * share + _Z * deviation) + 1
    few = deviation < _MANY
    low[few] = stats.binom.ppf(_TAIL, count[few], share)
    high[few] = stats.binom.ppf(1 - _TAIL, count[few], share) + 1
    return low, high


def calibration_error(
    count: Floats, hits: Floats, confidence: Floats, design: Floats
) -> tuple[Floats, Interval]:
    """Return ECE and its interval, from bins, (estimates, bins).

    An approximation. In a bin of n decisions, the gap (hits - confidence) / N is taken as normal,
    with the variance of n hits of the bin's accuracy; bins are independent. The absolute value of a
    noisy gap is on average larger than that of the true one, most where there is none: by the mean
    of a folded normal. That bias is subtracted from the lower end, as large as it is for the
    smallest true gap of each bin that its noise allows, and not from the upper: the interval holds
    the estimate, and errs on the wide side. It speaks of these bins, not of ECE in the limit.

    Args:
        count: decisions.
        hits: how many were right.
        confidence: sum of their confidence.
        design: by how much more decisions vary than if all were independent, (estimates,).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        total = count.sum(axis=1)
        gap = (hits - confidence) / total[:, None]
        # Half a hit and half a miss more: a bin without misses is not certain.
        share = (hits + 0.5) / (count + 1)
        variance = design[:, None] * count * share * (1 - share) / total[:, None] ** 2
        deviation = np.sqrt(variance)
        least = np.maximum(np.abs(gap) - _Z * deviation, 0.0)
        steep = np.where(deviation > 0, least / deviation, 0.0)
    folded = deviation * np.sqrt(2 / np.pi) * np.exp(-(steep**2) / 2) + least * special.erf(
        steep / np.sqrt(2)
    )
    estimate = np.abs(gap).sum(axis=1)
    bias = (folded - least).sum(axis=1)
    half = _Z * np.sqrt(variance.sum(axis=1))
    low = np.maximum(estimate - bias - half, 0.0)
    return np.where(total > 0, estimate, np.nan), _where(
        total > 1, low, np.minimum(estimate + half, 1.0)
    )


def _where(known: NDArray[np.bool_], low: Floats, high: Floats) -> Interval:
    return np.where(known, low, np.nan), np.where(known, high, np.nan)
