"""CUSUM whose false alarms are bounded for ever, recomputed from buckets.

Page's CUSUM ("Continuous inspection schemes", Biometrika 41, 1954) asks at every look t whether
rows since *some* time j speak for a mean that has shifted by d: with rows of variance s^2, n of
them with mean m in a bucket, and a mean of at most T while nothing is wrong,

    evidence(j, t) = sum over buckets j..t of  n * l * (m - T - d / 2),     l = d / s^2

is the logarithm of a likelihood ratio of normal distributions. For each j, exp(evidence(j, t)) is a
nonnegative supermartingale that begins at 1 as long as the mean is at most T, so that it ever
reaches 1/alpha_j with probability alpha_j at most (Ville, 1939). An alarm at

    max over j <= t of  evidence(j, t) - ln(1 / alpha_j)  >=  0,      alpha_j = alpha / (j (j + 1))

is therefore false with probability sum alpha_j = alpha at most, over *all* looks together: nothing
is lost by looking often. Page's constant boundary bounds how often false alarms come instead; in
the end one comes surely. This is the e-detector of Jaehyeok Shin, Aaditya Ramdas and Alessandro
Rinaldo ("E-detectors: a nonparametric framework for sequential change detection", New England
Journal of Statistics in Data Science 2(2), 2024, arXiv:2203.03532) with weights 1/(j (j + 1)), of
which the largest term is taken: it also says since when.

Rows are not normal, but l is small: a sum over buckets of l * m is nearly so. The log of the moment
generating function of a row is l^2 s^2 / 2 (1 + skewness * l * s / 3 + ...), so that the shift
looked for is at most :data:`LARGEST_SHIFT` standard deviations. What shifted further is found the
sooner all the same.
"""

from typing import Final

import numpy as np

from service.history.moments import Numbers

LARGEST_SHIFT: Final = 0.1  # standard deviations of a row


def surprise(starts: Numbers) -> Numbers:
    """Return ln(alpha / alpha_j) of starts that are counted from 1."""
    return np.log(starts) + np.log1p(starts)


def steps(excess: Numbers, units: Numbers, shift: float, spread: Numbers) -> Numbers:
    """Return what each bucket adds to the evidence.

    Args:
        excess: how far the mean lies on the wrong side of the target; NaN for an empty bucket.
        units: the rows that the mean is worth.
        shift: the smallest that is worth an alarm, above 0.
        spread: the standard deviation of a row, as known at the time.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        sought = np.minimum(shift, LARGEST_SHIFT * spread)
        added = units * sought / spread**2 * (excess - sought / 2)
    return np.where(np.isfinite(added), added, 0.0)
