"""Confidence sequences: bounds for a running mean that hold at every look, not at one.

An interval for one look that is looked at again and again misses in the end, whatever its level. A
confidence sequence holds the mean at *all* sizes of the sample at once with probability 1 - alpha.

Asymptotic (a strong approximation by Brownian motion takes the place of the central limit theorem),
for means of anything with a variance. Ian Waudby-Smith, David Arbour, Ritwik Sinha, Edward H.
Kennedy and Aaditya Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences",
Annals of Statistics 52(6), 2024, arXiv:2103.06476, theorem 2.2: with n rows, their mean m and
standard deviation s,

    m +- s * sqrt(2 (n rho^2 + 1) / (n^2 rho^2) * ln(sqrt(n rho^2 + 1) / alpha))

which is s / sqrt(n), the standard error, times :func:`two_sided`. It is Robbins' mixture: for a
Brownian motion S of variance V the mixture of exp(l S - l^2 V / 2) over l ~ N(0, rho^2),

    exp(rho^2 S^2 / (2 (V rho^2 + 1))) / sqrt(V rho^2 + 1),

is a martingale that begins at 1, so that it ever reaches 1/alpha with probability alpha at most
(Ville, 1939). Solved for S that is the bound above.

One side: l drawn from the upper half of that normal distribution only gives, with
y = rho S / sqrt(V rho^2 + 1), the martingale 2 Phi(y) exp(y^2 / 2) / sqrt(V rho^2 + 1). As
Phi(y) >= 1 - exp(-y^2 / 2) / 2 for y >= 0, it has reached 1/alpha where

    y^2 >= 2 ln(1/2 + sqrt(V rho^2 + 1) / (2 alpha)).
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from service.history.moments import Moments, Numbers


def tuning(units: float, alpha: float) -> float:
    """Return the rho for which the two-sided sequence is about narrowest at that many units.

    The paper's section on tuning: rho = sqrt((-2 ln alpha + ln(1 - 2 ln alpha)) / n). Any rho is
    valid as long as the data have no say in it.
    """
    surprise = -2 * math.log(alpha)
    return math.sqrt((surprise + math.log1p(surprise)) / units)


def two_sided(units: Numbers, alpha: ArrayLike, rho: float) -> Numbers:
    """Return how many standard errors lie between the mean and each bound."""
    grown = units * rho**2 + 1
    with np.errstate(divide="ignore"):
        return np.sqrt(2 * grown / (grown - 1) * (np.log(grown) / 2 - np.log(alpha)))


def one_sided(units: Numbers, alpha: ArrayLike, rho: float) -> Numbers:
    """Return how many standard errors lie between the mean and the one bound."""
    grown = units * rho**2 + 1
    # ln(1/2 + g / (2 alpha)): alpha may be so small that its inverse is not a number.
    exponent = np.logaddexp(0, np.log(grown) / 2 - np.log(alpha)) - math.log(2)
    with np.errstate(divide="ignore"):
        return np.sqrt(2 * grown / (grown - 1) * exponent)


def running(buckets: Moments, alpha: float, *, first: float = 100) -> tuple[Numbers, Numbers]:
    """Return the bounds for the mean of all buckets up to each, as they were at that time.

    Args:
        buckets: in the order in which they came.
        alpha: how often a bound may ever miss.
        first: the units at which somebody looks for the first time; before it nothing is said. The
            approximation is the better the larger it is.

    Returns:
        Lower and upper bound; infinite where nothing is said.
    """
    sums = buckets.running()
    margin = sums.error * two_sided(sums.units, alpha, tuning(first, alpha))
    margin = np.where(sums.units < first, np.inf, margin)
    return sums.mean - margin, sums.mean + margin
