"""A histogram of losses whose buckets grow by a constant ratio, so that it merges exactly.

Every value in a bucket is within 1 % of what the bucket reports; adding the counts of two
histograms gives the histogram of both batches, bit for bit. After Masson, Rim and Lee, DDSketch,
PVLDB 12 (2019).
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from xentcore.result import Distribution

_ACCURACY: Final = 0.01
_RATIO: Final = (1 + _ACCURACY) / (1 - _ACCURACY)
_LOG_RATIO: Final = math.log(_RATIO)
# Losses below are counted as 0, losses above in the last bucket; the exact extremes are kept apart.
_SMALLEST: Final = 1e-12
_LARGEST: Final = 1e12
_FIRST: Final = math.floor(math.log(_SMALLEST) / _LOG_RATIO)
_SIDE: Final = math.ceil(math.log(_LARGEST) / _LOG_RATIO) - _FIRST
# Buckets: _SIDE negative ones (some variants have negative losses), one for 0, _SIDE positive ones.
BUCKETS: Final = 2 * _SIDE + 1
_NOTHING: Final = torch.zeros(BUCKETS, dtype=torch.int64)  # never written to


@dataclass(slots=True)
class Histogram:
    """Counts per bucket, int64 (BUCKETS,), and the exact extremes of what was counted."""

    counts: Tensor
    minimum: float = math.inf
    maximum: float = -math.inf

    @classmethod
    def empty(cls) -> "Histogram":
        """Return the histogram of nothing."""
        return cls(_NOTHING)

    @classmethod
    def of(cls, losses: Tensor) -> "Histogram":
        """Count finite losses, (rows,), float64."""
        if not len(losses):
            return cls.empty()
        low, high = (each.item() for each in losses.aminmax())
        # In place, and no more than these losses need: of few rows, to start an operation takes
        # longer than what it does.
        if low >= _SMALLEST:
            bucket = _sizes(losses.log())
        else:
            magnitude = losses.abs()
            bucket = _sizes(magnitude.log()).masked_fill_(magnitude < _SMALLEST, 0)
            bucket.mul_(losses.sign())
        counts = torch.bincount(bucket.add_(_SIDE).long(), minlength=BUCKETS)
        return cls(counts.cpu(), low, high)

    def merge(self, other: "Histogram") -> None:
        """Add what another histogram counted."""
        # Not in place: an answer given before keeps its buckets.
        if self.counts is _NOTHING:
            self.counts = other.counts
        elif other.counts is not _NOTHING:
            self.counts = self.counts + other.counts
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)

    def distribution(self) -> Distribution:
        """Return extremes, quantiles and the buckets that hold rows."""
        held = self.counts.nonzero()[:, 0]
        count = self.counts[held]
        bucket = held - _SIDE
        reached = count.cumsum(0)
        total = int(count.sum())

        def quantile(share: float) -> float | None:
            if not total:
                return None
            # The value of rank ceil(share * n): one of the rows' own, not one between two of them.
            at = torch.searchsorted(reached, math.ceil(share * total))
            return float(_representative(bucket[at]).clamp(self.minimum, self.maximum))

        return Distribution(
            minimum=self.minimum if total else None,
            maximum=self.maximum if total else None,
            p50=quantile(0.50),
            p90=quantile(0.90),
            p99=quantile(0.99),
            lower=_lower_edges(bucket),
            upper=-_lower_edges(-bucket),
            count=count,
        )


def bucket_bounds() -> tuple[Tensor, Tensor, Tensor]:
    """Return what all buckets stand for, ascending, each (BUCKETS,), float64, in nats.

    Their lower and upper edges, and the value that is within 1 % of everything between them.
    """
    bucket = torch.arange(-_SIDE, _SIDE + 1)
    return _lower_edges(bucket), -_lower_edges(-bucket), _representative(bucket)


def _sizes(logarithms: Tensor) -> Tensor:
    """Return the buckets of positive losses by their logarithms, which are overwritten."""
    return logarithms.div_(_LOG_RATIO).ceil_().sub_(_FIRST).clamp_(1, _SIDE)


def _lower_edges(bucket: Tensor) -> Tensor:
    """Return the lower edge of signed buckets. The one around 0 reaches from -1e-12 to 1e-12."""
    inner = ((bucket - 1 + _FIRST).double() * _LOG_RATIO).exp()
    outer = -((-bucket + _FIRST).double() * _LOG_RATIO).exp()
    edge = torch.where(bucket > 0, inner, outer)
    return torch.where(bucket == 0, -_SMALLEST, edge)


def _representative(bucket: Tensor) -> Tensor:
    """Return the value that is within 1 % of everything in the bucket."""
    size = ((bucket.abs() + _FIRST).double() * _LOG_RATIO).exp() * (2 / (1 + _RATIO))
    return torch.where(bucket == 0, 0.0, bucket.sign() * size)
