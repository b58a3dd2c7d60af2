"""Quantiles of losses from histograms, of many at once."""

from functools import cache
from typing import Final

import numpy as np

from service.history import intervals
from service.history.intervals import Floats
from service.history.stack import Pile
from xentcore import bucket_bounds

SHARES: Final = {"p50": 0.50, "p90": 0.90, "p99": 0.99}


@cache
def bounds() -> tuple[Floats, Floats, Floats]:
    """Return lower edge, upper edge and value of every bucket, nats."""
    lower, upper, value = (each.numpy() for each in bucket_bounds())
    return lower, upper, value


class Histograms:
    """Histograms, one after the other, and the extremes of what they count.

    Args:
        pile: buckets, those of an owner ascending.
        low: smallest loss of each, (histograms,).
        high: largest.
    """

    def __init__(self, pile: Pile, low: Floats, high: Floats) -> None:
        self._low, self._high = low, high
        self._bucket = pile.records["bucket"]
        self._reached = np.cumsum(pile.records["count"])
        ends = np.searchsorted(pile.owner, np.arange(len(low)), side="right")
        upto = np.concatenate([[0], self._reached])[ends]
        self._before = np.concatenate([[0], upto[:-1]]) if len(low) else upto
        self.count = (upto - self._before).astype(np.float64)

    def quantile(self, share: float) -> Floats:
        """Return the value of rank ceil(share n), within 1 %: one of the rows' own."""
        return self._at(np.ceil(share * self.count), bounds()[2])

    def interval(self, share: float) -> intervals.Interval:
        """Return between which losses the quantile of what they are drawn from lies.

        The outer edges of the buckets in which the two order statistics are.
        """
        low, high = intervals.quantile_ranks(self.count, share)
        return self.edge(low, upper=False), self.edge(high, upper=True)

    def edge(self, rank: Floats, *, upper: bool) -> Floats:
        """Return the outer edge of the bucket in which a rank is, from 1; NaN for no such rank."""
        return self._at(rank, bounds()[1 if upper else 0])

    def _at(self, rank: Floats, values: Floats) -> Floats:
        """Return the values at ranks, from 1; NaN where there is no such rank."""
        known = (rank >= 1) & (rank <= self.count)
        wanted = self._before + np.where(known, rank, 1).astype(np.int64)
        index = np.searchsorted(self._reached, wanted)
        if not len(self._bucket):
            return np.full(len(rank), np.nan)
        found = values[self._bucket[np.minimum(index, len(self._bucket) - 1)]]
        return np.where(known, np.clip(found, self._low, self._high), np.nan)
