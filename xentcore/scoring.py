"""Rows of a block under one variant: what each contributes, and the summary of them all.

The two families differ in what they know about a row; what becomes of it is the same.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xentcore.calibration import CalibrationSums
from xentcore.elements import Elements, ElementTerms, restore_infinities
from xentcore.histogram import Histogram
from xentcore.options import NonFinitePolicy, Output
from xentcore.per_class import Sums, sigmoid_sums, softmax_sums
from xentcore.result import HardRow
from xentcore.row_statistics import RowStatistics, RowTerms, gradient, times
from xentcore.summary import RowCounts, Summary


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of rows whose losses are known.

    Attributes:
        loss: each row's contribution to the sum, all weights included, (rows,), float64.
        total: the sum of the losses that are counted.
        infinite: rows whose loss is +inf, (rows,), bool; ``None`` for none.
        kept: rows that are evaluated, (rows,), bool; ``None`` for all.
        finite: rows whose loss is finite, (rows,), bool; ``None`` for all. Under "propagate" rows
            are kept that are not finite; order statistics and bins leave them out.
        factors: sample weight, 0 where the row is excluded, (rows,), float64.
        plain: whether every factor is 1.
    """

    loss: Tensor
    total: float
    infinite: Tensor | None
    kept: Tensor | None
    finite: Tensor | None
    factors: Tensor
    plain: bool

    @classmethod
    def of(
        cls, loss: Tensor, weights: Tensor | None, policy: NonFinitePolicy, *, lost: Tensor | None
    ) -> "Fate":
        """Decide what becomes of rows.

        Args:
            loss: as the variant has it, (rows,), float64.
            weights: sample weights, (rows,), float64; ``None`` for ones.
            policy: what becomes of a loss that is not finite.
            lost: rows whose loss counts as +inf whatever they weigh, (rows,), bool; ``None`` for
                none.
        """
        factors = torch.ones_like(loss) if weights is None else weights
        if weights is not None:
            # A row of weight 0 contributes 0, whatever its loss.
            loss = times(weights, loss)
        if lost is not None:
            loss = loss.masked_fill(lost, torch.inf)
        total = loss.sum().item()
        # One look at the sum tells of all rows, unless finite ones overflow together.
        if math.isfinite(total) or (finite := loss.isfinite()).all():
            return cls(loss, total, None, None, None, factors, weights is None)
        infinite = loss.isposinf()
        if policy == "propagate":
            return cls(loss, total, infinite, None, finite, factors, weights is None)
        total = loss.masked_fill(~finite, 0).sum().item()
        factors = factors.masked_fill(infinite, 0)
        return cls(loss, total, infinite, finite, finite, factors, plain=False)

    def of_evaluated(self, column: Tensor) -> Tensor:
        """Return the entries of the rows that are evaluated."""
        return column if self.kept is None else column[self.kept]

    def of_finite(self, column: Tensor) -> Tensor:
        """Return the entries of the rows whose loss is finite."""
        return column if self.finite is None else column[self.finite]

    @property
    def counted_loss(self) -> Tensor:
        """The loss of the rows that are evaluated, 0 for the others, (rows,), float64."""
        return self.loss if self.kept is None else self.loss.masked_fill(~self.kept, 0)


class Scored(ABC):
    """Rows of one family under one variant, with their fate."""

    fate: Fate

    @property
    def magnitude(self) -> Tensor:
        """What each row's counted loss is made of, signs aside, (rows,), float64."""
        return self.fate.counted_loss.abs()

    @abstractmethod
    def gradient(self, scale: float, into: Tensor | None = None) -> Tensor:
        """Return scale * d sum / d logits, (rows, classes), exactly 0 where excluded.

        Args:
            scale: see above.
            into: where to write it, contiguous, of the logits' shape and dtype; ``None`` for a
                tensor of its own.
        """

    @abstractmethod
    def saturated(self) -> int:
        """Return how many evaluated losses are too small for the compute dtype to tell from 0."""

    @abstractmethod
    def label_weights(self, class_weights: Tensor | None) -> Tensor | None:
        """Return s * sum over classes of w*t, t unsmoothed, (rows,), float64; ``None`` for ones."""

    @abstractmethod
    def support(self) -> Sums:
        """Return the counts per class that diagnostics need."""

    @abstractmethod
    def class_sums(self, class_weights: Tensor | None, support: Sums, *, squares: bool) -> Sums:
        """Return the sums behind the per-class breakdown, beside the counts of ``support``.

        Those of squares, if asked for, are ``loss_square_sum``, ``loss_weight_sum``,
        ``weight_square_sum`` and ``gradient_norm_square_sum``: of x^2, x w, w^2 and of the squared
        norms, x what a row (sigmoid: an element) adds to ``loss_sum`` and w what it adds to
        ``weight``.
        """

    @abstractmethod
    def row_losses(self) -> Tensor:
        """Return losses before sample weights, NaN where not finite or not evaluated, (rows,)."""

    @abstractmethod
    def comparison_sums(self) -> Sums:
        """Return the sums per class that a comparison needs, beside what its columns tell.

        ``positive_weight``: sum of s_r * t_rc over evaluated rows. Sigmoid family: also
        ``negative_weight``, that of s_r * (1 - t_rc), and ``loss_sum``.
        """

    @abstractmethod
    def calibration(self) -> CalibrationSums:
        """Return the sums behind the reliability diagram."""

    @abstractmethod
    def hard_rows(self, places: Sequence[int], rows: Tensor) -> Iterable[HardRow]:
        """Describe the rows at these positions, whose numbers are ``rows``."""


@dataclass(frozen=True, slots=True)
class ScoredRows(Scored):
    """Softmax family."""

    statistics: RowStatistics
    terms: RowTerms
    fate: Fate

    @classmethod
    def of(
        cls,
        statistics: RowStatistics,
        terms: RowTerms,
        weights: Tensor | None,
        policy: NonFinitePolicy,
    ) -> "ScoredRows":
        """Decide the rows' fate. A row of -inf alone has no softmax: its loss counts as +inf."""
        fate = Fate.of(terms.loss, weights, policy, lost=statistics.blank)
        return cls(statistics, terms, fate)

    @property
    def magnitude(self) -> Tensor:
        parts = self.terms.magnitude
        return self.fate.counted_loss.abs() if parts is None else times(self.fate.factors, parts)

    def gradient(self, scale: float, into: Tensor | None = None) -> Tensor:
        return gradient(self.statistics, self.terms, self.fate.factors * scale, into)

    def saturated(self) -> int:
        if self.statistics.targets is not None:
            return 0
        if not self.statistics.may_vanish:
            return 0
        vanished = (self.statistics.others == 0) & (self.terms.loss == 0)
        return int(self.fate.of_evaluated(vanished).sum())

    def label_weights(self, class_weights: Tensor | None) -> Tensor | None:
        targets, fate = self.statistics.targets, self.fate
        if class_weights is None:
            # A label sums to 1, also where rounding left a distribution a little off.
            return None if fate.plain else fate.factors
        if targets is not None:
            return (targets * class_weights).sum(dim=1, dtype=torch.float64) * fate.factors
        return class_weights[self.statistics.pivot].double() * fate.factors

    def support(self) -> Sums:
        if self.fate.kept is None:
            return {"support": self.statistics.support}
        label = self.fate.of_evaluated(self.statistics.label)
        return {"support": torch.bincount(label, minlength=self.statistics.classes)}

    def class_sums(self, class_weights: Tensor | None, support: Sums, *, squares: bool) -> Sums:
        weight = self.label_weights(class_weights)
        loss = self.fate.counted_loss
        by_row = {"loss_sum": loss}
        if squares:
            by_row["loss_square_sum"] = loss.square()
        if weight is not None:
            by_row["weight"] = weight
        if squares and weight is not None:
            by_row["loss_weight_sum"] = loss * weight
            by_row["weight_square_sum"] = weight.square()
        label, classes = self.statistics.label, self.statistics.classes
        found = {
            name: torch.bincount(label, column, minlength=classes)
            for name, column in by_row.items()
        }
        if weight is None:
            # Ones: what they multiply stays as it is, and what they add up to was counted.
            found["weight"] = support["support"].double()
        if squares and weight is None:
            found["loss_weight_sum"] = found["loss_sum"]
            found["weight_square_sum"] = found["weight"]
        factors = None if self.fate.plain else self.fate.factors
        return found | softmax_sums(
            self.statistics, self.terms, factors=factors, kept=self.fate.kept, squares=squares
        )

    def row_losses(self) -> Tensor:
        return _finite_losses(self.terms.loss, self.fate)

    def comparison_sums(self) -> Sums:
        targets, factors = self.statistics.targets, self.fate.factors
        if targets is not None:
            return {"positive_weight": torch.mv(targets.double().t(), factors)}
        label, classes = self.statistics.label, self.statistics.classes
        return {"positive_weight": torch.bincount(label, factors, minlength=classes)}

    def calibration(self) -> CalibrationSums:
        finite, statistics = self.fate.of_finite, self.statistics
        return CalibrationSums.of(
            confidence=finite(statistics.confidence),
            hits=finite(statistics.prediction == statistics.label),
            brier=finite(statistics.brier),
            entropy=finite(statistics.entropy),
        )

    def hard_rows(self, places: Sequence[int], rows: Tensor) -> Iterable[HardRow]:
        statistics = self.statistics
        # Of all rows at once: one by one, reading ten of them takes as long as finding them.
        at = torch.tensor(places, dtype=torch.int64, device=rows.device)
        columns = (
            rows,
            statistics.label,
            statistics.prediction,
            statistics.confidence,
            self.fate.loss,
        )
        return map(HardRow, *(column[at].tolist() for column in columns))


@dataclass(frozen=True, slots=True)
class ScoredElements(Scored):
    """Sigmoid family."""

    block: Elements
    terms: ElementTerms
    fate: Fate

    @classmethod
    def of(
        cls, block: Elements, terms: ElementTerms, weights: Tensor | None, policy: NonFinitePolicy
    ) -> "ScoredElements":
        """Decide the rows' fate."""
        terms = restore_infinities(block, terms)
        loss = terms.loss.sum(dim=1, dtype=torch.float64)
        return cls(block, terms, Fate.of(loss, weights, policy, lost=None))

    def gradient(self, scale: float, into: Tensor | None = None) -> Tensor:
        factors = (self.fate.factors * scale)[:, None].to(self.terms.gradient.dtype)
        found = torch.where(factors == 0, 0.0, self.terms.gradient * factors)
        return found if into is None else into.copy_(found)

    def saturated(self) -> int:
        certain = torch.minimum(self.block.probability, self.block.complement) == 0
        vanished = certain & (self.terms.loss == 0)
        return int(self.fate.of_evaluated(vanished.all(dim=1)).sum())

    def label_weights(self, class_weights: Tensor | None) -> Tensor | None:
        targets = self.block.targets
        weighted = targets if class_weights is None else targets * class_weights
        return weighted.sum(dim=1, dtype=torch.float64) * self.fate.factors

    def support(self) -> Sums:
        positive = self.fate.of_evaluated(self.block.targets) >= 0.5  # noqa: PLR2004
        rows, classes = positive.shape
        return {
            "support": torch.full((classes,), rows, device=positive.device),
            "positives": positive.sum(dim=0),
        }

    def class_sums(self, class_weights: Tensor | None, support: Sums, *, squares: bool) -> Sums:  # noqa: ARG002  (its elements are counted with their sums)
        sums = sigmoid_sums(self.block, self.terms, factors=self.fate.factors, kept=self.fate.kept)
        if class_weights is not None:
            sums["weight"] = sums["weight"] * class_weights
        return sums | self._squares(class_weights) if squares else sums

    def _squares(self, class_weights: Tensor | None) -> Sums:
        factors = self.fate.factors[:, None]
        loss = times(factors, self.terms.loss)
        weight = factors * self.block.targets
        if class_weights is not None:
            weight = weight * class_weights
        slope = times(factors, self.terms.gradient)
        return {
            "loss_square_sum": loss.square().sum(dim=0),
            "loss_weight_sum": (loss * weight).sum(dim=0),
            "weight_square_sum": weight.square().sum(dim=0),
            "gradient_norm_square_sum": slope.square().sum(dim=0),
        }

    def row_losses(self) -> Tensor:
        return _finite_losses(self.terms.loss.sum(dim=1, dtype=torch.float64), self.fate)

    def comparison_sums(self) -> Sums:
        factors, targets = self.fate.factors, self.block.targets.double()
        loss = times(factors[:, None], self.terms.loss)
        return {
            "positive_weight": torch.mv(targets.t(), factors),
            # Not the rest of all weights: that difference is not 0 where all targets are 1.
            "negative_weight": torch.mv((1 - targets).t(), factors),
            "loss_sum": loss.sum(dim=0, dtype=torch.float64),
        }

    def calibration(self) -> CalibrationSums:
        finite, block = self.fate.of_finite, self.block
        p, t = finite(block.probability).double(), finite(block.targets).double()
        not_p = finite(block.complement).double()
        entropy = -(torch.xlogy(p, p) + torch.xlogy(not_p, not_p))
        return CalibrationSums.of(
            confidence=p.flatten(),
            hits=t.flatten(),
            brier=(p - t).square().flatten(),
            entropy=entropy.flatten(),
        )

    def hard_rows(self, places: Sequence[int], rows: Tensor) -> Iterable[HardRow]:
        return [self._hard_row(at, int(rows[at])) for at in places]

    def _hard_row(self, at: int, row: int) -> HardRow:
        worst = int(self.terms.loss[at].argmax())
        return HardRow(
            row=row,
            label=int(self.block.targets[at, worst] >= 0.5),  # noqa: PLR2004
            prediction=int(self.block.logits[at, worst] >= 0),
            probability=self.block.probability[at, worst].item(),
            loss=self.fate.loss[at].item(),
            class_index=worst,
        )


def _finite_losses(loss: Tensor, fate: Fate) -> Tensor:
    usable = loss.isfinite() if fate.finite is None else loss.isfinite() & fate.finite
    return loss.masked_fill(~usable, torch.nan)


def summarise(
    scored: Scored,
    class_weights: Tensor | None,
    outputs: Collection[Output],
    *,
    hardest: int,
    numbers: Tensor,
    squares: bool,
) -> Summary:
    """Return the summary of rows under one variant.

    Args:
        scored: the rows.
        class_weights: those that enter the denominator, (classes,), or ``None``.
        outputs: what was asked for.
        hardest: how many rows the list of hardest ones holds.
        numbers: the rows' numbers, (rows,), int64.
        squares: whether to sum squares too.
    """
    summary = Summary.empty(outputs, hardest=hardest)
    fate = scored.fate
    weight = scored.label_weights(class_weights)
    infinite = 0 if fate.infinite is None else int(fate.infinite.sum())
    summary.loss_sum = fate.total
    summary.weight_sum = float(len(fate.loss)) if weight is None else weight.sum().item()
    summary.rows = RowCounts(
        infinite=infinite,
        evaluated=len(fate.loss) - (0 if fate.kept is None else infinite),
        saturated=scored.saturated(),
    )
    summary.classes = scored.support()
    if "per_class" in outputs:
        summary.classes |= scored.class_sums(class_weights, summary.classes, squares=squares)
    if squares:
        summary.squares = _squares(fate, weight)
    if summary.histogram is not None:
        summary.histogram = Histogram.of(fate.of_finite(fate.loss))
    if summary.calibration is not None:
        summary.calibration = scored.calibration()
    if summary.hardest is not None:
        places = summary.hardest.candidates(fate.loss, fate.finite)
        summary.hardest.add(scored.hard_rows(places, numbers))
    return summary


def _squares(fate: Fate, weight: Tensor | None) -> Tensor:
    loss = fate.counted_loss
    of_loss = torch.dot(loss, loss).item()
    if weight is None:
        return torch.tensor([of_loss, fate.total, len(loss)], dtype=torch.float64)
    products = torch.dot(loss, weight).item(), torch.dot(weight, weight).item()
    return torch.tensor([of_loss, *products], dtype=torch.float64)
