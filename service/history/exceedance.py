"""A quantile beyond a value is a mean beyond a share: how quantiles of losses are watched.

The p-quantile of losses lies above a value exactly where more than 1 - p of the losses do, and
below it where fewer do. That share is the mean of a number that is 1 or 0 for every row, so what
holds for means at all looks holds for it. Its standard deviation at the target is known:
sqrt(p (1 - p)).

Losses are known by their buckets. A row counts as beyond the value only where its whole bucket is:
a quantile must be a bucket's width, 2 %, further off before rows speak against the target.
"""

import math
from typing import Final

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from service.history import stack
from service.history.detection import Target
from service.history.moments import Moments, Numbers, dispersion
from service.history.quantiles import Histograms, bounds
from service.history.stack import Stack

COLUMNS: Final = ("loss_min", "loss_max", "histogram")
# A share is close to normal only where so many rows are to be expected beyond the quantile.
LEAST_BEYOND: Final = 50


def least_rows(share: float) -> int:
    """Return of how many rows a quantile can be watched: p99 needs more than p50."""
    return round(LEAST_BEYOND / min(share, 1 - share))


def target(share: float, alpha: float, inflation: float = 1.0) -> Target:
    """Return what the share of rows beyond the value of a quantile must not lie beyond."""
    spread = math.sqrt(share * (1 - share))
    return Target(1 - share, alpha, spread=spread, inflation=inflation)


def beyond(sums: Stack, value: float, sign: int) -> Moments:
    """Return the moments of the share of rows above a value, (count,).

    Args:
        sums: with :data:`COLUMNS`.
        value: nats.
        sign: 1: rows that are certainly above it; -1: all but those that are certainly below.
    """
    pile = sums.piles["histogram"]
    lower, upper, _ = bounds()
    bucket, count = pile.records["bucket"], pile.records["count"].astype(np.float64)
    above = lower[bucket] >= value if sign > 0 else upper[bucket] >= value
    rows = _added(pile.owner, count, sums.count)
    hits = _added(pile.owner, np.where(above, count, 0.0), sums.count)
    return Moments(rows=rows, x=hits, w=rows, xx=hits, xw=hits, ww=rows)


def quantile(sums: Stack, share: float) -> float:
    """Return the quantile of all sums together; NaN for no rows."""
    return float(_whole(sums).quantile(share)[0])


def reference_value(
    sums: Stack, share: float, sign: int, alpha: float
) -> tuple[float, Target] | None:
    """Return the value that a reference sets, and the target; ``None`` for too few rows.

    The reference's quantile is itself an estimate. Half of alpha goes to a bound for it, an order
    statistic, of as many rows as the dispersion of its buckets leaves; half is left for the alarm.
    Source: Conover, Practical Nonparametric Statistics, 3rd ed. (1999), section 3.2.
    """
    whole = _whole(sums)
    count = float(whole.count[0])
    if not count:
        return None
    inflation = dispersion(beyond(sums, float(whole.quantile(share)[0]), sign))
    independent = math.floor(count / inflation)
    tail = stats.binom.ppf(1 - alpha / 2 if sign > 0 else alpha / 2, independent, share)
    rank = math.ceil(count * (tail + 1) / independent) if sign > 0 else tail * inflation // 1
    (value,) = whole.edge(np.array([rank], np.float64), upper=sign > 0)
    return None if math.isnan(value) else (float(value), target(share, alpha / 2, inflation))


def _whole(sums: Stack) -> Histograms:
    whole = stack.fold(sums, np.zeros(sums.count, np.int64), 1)
    return Histograms(
        whole.piles["histogram"], whole.scalars["loss_min"], whole.scalars["loss_max"]
    )


def _added(owner: stack.Integers, values: Numbers, count: int) -> Numbers:
    return np.bincount(owner, values, minlength=count).astype(np.float64)
