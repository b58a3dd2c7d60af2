"""Reliability bins, and the sums behind ECE, Brier score and mean entropy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from xentcore.result import Calibration, ratio, ratios

BINS: Final = 15
# What no decision adds up to; never written to.
_NONE: Final = torch.zeros(BINS, dtype=torch.int64)
_NOTHING: Final = torch.zeros(BINS, dtype=torch.float64)


@dataclass(slots=True)
class CalibrationSums:
    """Per bin of confidence: count, sum of confidence, hits; and totals. float64 and int64."""

    count: Tensor = field(default_factory=lambda: _NONE)
    hits: Tensor = field(default_factory=lambda: _NOTHING)
    confidence_sum: Tensor = field(default_factory=lambda: _NOTHING)
    brier_sum: float = 0.0
    brier_square_sum: float = 0.0
    entropy_sum: float = 0.0

    @classmethod
    def of(
        cls, confidence: Tensor, hits: Tensor, brier: Tensor, entropy: Tensor
    ) -> "CalibrationSums":
        """Count decisions: all four of shape (decisions,), ``hits`` 0, 1 or a target between."""
        if not len(confidence):
            return cls()
        confidence, brier = confidence.double(), brier.double()
        bins = (confidence * BINS).ceil_().clamp_(1, BINS).sub_(1).long()
        return cls(
            count=torch.bincount(bins, minlength=BINS).cpu(),
            hits=torch.bincount(bins, hits.double(), minlength=BINS).cpu(),
            confidence_sum=torch.bincount(bins, confidence, minlength=BINS).cpu(),
            brier_sum=brier.sum().item(),
            brier_square_sum=torch.dot(brier, brier).item(),
            entropy_sum=entropy.double().sum().item(),
        )

    def merge(self, other: "CalibrationSums") -> None:
        """Add what another evaluation counted."""
        if other.count is _NONE:
            return
        # Not in place: an answer given before keeps its bins.
        none = self.count is _NONE
        self.count = other.count if none else self.count + other.count
        self.hits = other.hits if none else self.hits + other.hits
        self.confidence_sum = (
            other.confidence_sum if none else self.confidence_sum + other.confidence_sum
        )
        self.brier_sum += other.brier_sum
        self.brier_square_sum += other.brier_square_sum
        self.entropy_sum += other.entropy_sum

    def state(self) -> dict[str, Tensor]:
        """Return everything as plain tensors by name."""
        totals = torch.tensor(
            [self.brier_sum, self.brier_square_sum, self.entropy_sum], dtype=torch.float64
        )
        return {
            "count": self.count.clone(),
            "hits": self.hits.clone(),
            "confidence_sum": self.confidence_sum.clone(),
            "totals": totals,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "CalibrationSums":
        """Return what :meth:`state` described."""
        brier_sum, brier_square_sum, entropy_sum = state["totals"].tolist()
        return cls(
            count=state["count"].clone(),
            hits=state["hits"].clone(),
            confidence_sum=state["confidence_sum"].clone(),
            brier_sum=brier_sum,
            brier_square_sum=brier_square_sum,
            entropy_sum=entropy_sum,
        )

    def calibration(self) -> Calibration:
        """Return the bins and the scores."""
        total = int(self.count.sum())
        edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
        gap = (self.hits - self.confidence_sum).abs().sum().item()
        return Calibration(
            lower=edges[:-1],
            upper=edges[1:],
            count=self.count,
            confidence_mean=ratios(self.confidence_sum, self.count),
            accuracy=ratios(self.hits, self.count),
            ece=ratio(gap, total),
            brier=ratio(self.brier_sum, total),
            entropy_mean=ratio(self.entropy_sum, total),
        )
