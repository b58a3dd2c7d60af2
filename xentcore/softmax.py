"""The row-statistics pass and the gradient pass of the softmax family, in plain PyTorch.

With ``u = z - max z`` the logarithm of a probability is ``u - log sum exp u``; a common offset on
the logits cancels in ``u`` before anything is rounded. The sum leaves one term out, the *pivot*:
the label where there is one, the largest logit otherwise. What is left, ``others``, is exactly what
the naive expressions lose: ``1 - p_y = others / (e^u_y + others)`` keeps all its digits at
p_y -> 1, and so do the loss ``log1p(others)`` and the gradient at the label ``-(1 - p_y)``.

Matrices are in the compute dtype (float32 or float64); everything with one number per row is
float64, so that a row's numbers do not depend on which rows it was evaluated with.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from xentcore.constants import Constants

_EXACT_IN_FLOAT32: Final = 1 << 24  # whole numbers up to here have a float32 of their own
_FLOAT64_ELEMENTS: Final = 1 << 17


@dataclass(frozen=True)
class RowStatistics:
    """What one pass over rows of logits measured. Columns beyond the first few are made on demand.

    Attributes:
        logits: z, (rows, classes).
        exp_others: exp u with the pivot's entry 0, (rows, classes).
        pivot: the class left out of ``others``, (rows,).
        pivot_shifted: u at the pivot, (rows,).
        others: sum over classes but the pivot of exp u, (rows,).
        targets: label distributions (rows, classes), or ``None`` where the pivot is the label.
        constants: per-class settings as tensors.
        maximum: max z, (rows,).
    """

    logits: Tensor
    exp_others: Tensor
    pivot: Tensor
    pivot_shifted: Tensor
    others: Tensor
    targets: Tensor | None
    constants: Constants
    maximum: Tensor

    @property
    def classes(self) -> int:
        """How many classes a row has."""
        return self.logits.shape[1]

    @cached_property
    def shifted(self) -> Tensor:
        """U = z - max z, (rows, classes); made again for the few who need it."""
        return _shifted(self.logits, self.maximum)

    @cached_property
    def pivot_exp(self) -> Tensor:
        """Exp u at the pivot, (rows,)."""
        return self.pivot_shifted.exp()

    @cached_property
    def partition(self) -> Tensor:
        """Sum exp u, (rows,); at least 1 wherever a logit is finite."""
        return self.pivot_exp + self.others

    @cached_property
    def log_partition(self) -> Tensor:
        """Log sum exp u, (rows,)."""
        # log1p: at others = 1e-9 the sum rounds to 1 and its logarithm to 0.
        return torch.where(self.pivot_exp == 1, self.others.log1p(), self.partition.log())

    @cached_property
    def pivot_probability(self) -> Tensor:
        """P at the pivot, (rows,)."""
        return self.pivot_exp / self.partition

    @cached_property
    def pivot_complement(self) -> Tensor:
        """1 - p at the pivot without cancellation, (rows,)."""
        return self.others / self.partition

    @cached_property
    def pivot_surprise(self) -> Tensor:
        """-log p at the pivot, (rows,); +inf where its logit is -inf."""
        return torch.where(
            self.pivot_shifted.isneginf(),
            torch.inf,
            self.log_partition - self.pivot_shifted,
        )

    @cached_property
    def others_squared(self) -> Tensor:
        """Sum over classes but the pivot of (exp u)^2, (rows,)."""
        norm: Tensor = torch.linalg.vector_norm(self.exp_others, dim=1)
        return norm.double().square()

    @cached_property
    def prediction(self) -> Tensor:
        """The class of the largest logit, the first of equals, (rows,)."""
        if self.targets is not None:
            return self.pivot
        if self.classes > _EXACT_IN_FLOAT32:
            return self.shifted.argmax(dim=1)
        # argmax does not use vector instructions. The largest logit is where exp u is 1: with a
        # single one among the others its index is a product with 0, 1, 2, ..., exact in float32.
        peaks = self.exp_others.floor()
        count = peaks.sum(dim=1)
        place = torch.mv(peaks, self.constants.places(self.classes))
        found = torch.where(count == 0, self.pivot, place.long())
        # Equal logits, or so close that their exponentials round to the same.
        unclear = (count != 0) & ((count != 1) | (self.pivot_exp == 1))
        if unclear.any():
            found[unclear] = _shifted(self.logits[unclear], self.maximum[unclear]).argmax(dim=1)
        return found

    @cached_property
    def label(self) -> Tensor:
        """The label; for distributions its most probable class, the first of equals, (rows,)."""
        return self.pivot if self.targets is None else self.targets.argmax(dim=1)

    @cached_property
    def confidence(self) -> Tensor:
        """The largest probability, (rows,)."""
        return self.partition.reciprocal()

    @cached_property
    def probabilities(self) -> Tensor:
        """P in the compute dtype, (rows, classes)."""
        p = self.exp_others / self.partition[:, None].to(self.exp_others.dtype)
        return p.scatter_(1, self.pivot[:, None], self.pivot_probability[:, None].to(p.dtype))

    @cached_property
    def entropy(self) -> Tensor:
        """-sum p log p in nats, (rows,). Every term has one sign: nothing cancels."""
        pivot_part = times(self.pivot_exp, self.pivot_shifted)
        spread = weighted_sum(self.shifted, self.exp_others) + pivot_part
        return self.log_partition - spread / self.partition

    @cached_property
    def brier(self) -> Tensor:
        """||p - t||^2, (rows,); its root is the EL2N score (arXiv 2107.07075)."""
        if self.targets is not None:
            return (self.probabilities - self.targets).double().square().sum(dim=1)
        return self.pivot_complement.square() + self.others_squared / self.partition.square()

    @cached_property
    def target_probability(self) -> Tensor:
        """Probability of the label, sum t*p for distributions, (rows,)."""
        if self.targets is not None:
            return (self.probabilities * self.targets).double().sum(dim=1)
        return self.pivot_probability

    @cached_property
    def rank(self) -> Tensor:
        """Classes whose logit is larger than the label's, (rows,)."""
        at_label = self.shifted.gather(1, self.label[:, None])
        return (self.shifted > at_label).sum(dim=1)

    @cached_property
    def margin(self) -> Tensor:
        """The label's logit less the largest other one, (rows,)."""
        at_label = self.shifted.gather(1, self.label[:, None])
        rest = self.shifted.scatter(1, self.label[:, None], -torch.inf).amax(dim=1)
        return at_label[:, 0].double() - rest.double()

    def others_sums(self, factors: Tensor) -> Tensor:
        """Return sum over rows of factors[row] * exp u[row, class] but at pivots, (classes,)."""
        # float64: a float32 sum over rows would depend on how they were split into chunks.
        sums = torch.zeros(self.classes, dtype=torch.float64, device=factors.device)
        # A few rows at a time: their float64 copy takes little memory and stays in the cache.
        step = max(1, _FLOAT64_ELEMENTS // self.classes)
        for start in range(0, len(factors), step):
            some = slice(start, start + step)
            sums.addmv_(self.exp_others[some].double().t(), factors[some])
        return sums


@dataclass(frozen=True, slots=True)
class RowTerms:
    """A variant's loss per row, and what its gradient consists of.

    The gradient of a row is ``scale * p - subtract``; with hard labels its entry at the label is
    ``at_label`` instead, where the difference would cancel.

    Attributes:
        loss: (rows,), nats, +inf where the variant's loss is.
        scale: (rows,).
        subtract: (classes,) or (rows, classes), or ``None`` for nothing.
        at_label: (rows,), or ``None`` for distribution labels.
    """

    loss: Tensor
    scale: Tensor
    subtract: Tensor | None
    at_label: Tensor | None


def row_statistics(
    logits: Tensor, maximum: Tensor, labels: Tensor, constants: Constants
) -> RowStatistics:
    """Measure rows of finite or -inf logits.

    Args:
        logits: (rows, classes) in the compute dtype.
        maximum: the largest logit per row, (rows,).
        labels: the class of each row, int64, (rows,); or label distributions, (rows, classes).
        constants: per-class settings as tensors.
    """
    targets = labels if labels.dim() > 1 else None
    exp_others = _shifted(logits, maximum)
    pivot = labels if targets is None else exp_others.argmax(dim=1)
    pivot_shifted = exp_others.gather(1, pivot[:, None])[:, 0].double()
    exp_others.exp_().scatter_(1, pivot[:, None], 0.0)
    return RowStatistics(
        logits=logits,
        exp_others=exp_others,
        pivot=pivot,
        pivot_shifted=pivot_shifted,
        others=exp_others.sum(dim=1).double(),
        targets=targets,
        constants=constants,
        maximum=maximum,
    )


def _shifted(logits: Tensor, maximum: Tensor) -> Tensor:
    # A row of -inf alone has no maximum to subtract; it stays -inf and its loss is +inf.
    return logits - maximum.masked_fill(maximum.isneginf(), 0)[:, None]


def gradient(statistics: RowStatistics, terms: RowTerms, factors: Tensor) -> Tensor:
    """Return factors[row] * d loss[row] / d logits, (rows, classes) in the compute dtype.

    Exactly 0 in rows whose factor is 0, whatever the terms hold there.
    """
    dtype = statistics.exp_others.dtype
    scale = times(factors, terms.scale / statistics.partition)
    out = statistics.exp_others * scale[:, None].to(dtype)
    pivot = statistics.pivot[:, None]
    if terms.at_label is None:
        out.scatter_(1, pivot, (scale * statistics.pivot_exp)[:, None].to(dtype))
    if terms.subtract is not None:
        out.addcmul_(terms.subtract.expand_as(out), factors[:, None].to(dtype), value=-1)
    if terms.at_label is not None:
        out.scatter_(1, pivot, times(factors, terms.at_label)[:, None].to(dtype))
    excluded = factors == 0
    if excluded.any():
        out.masked_fill_(excluded[:, None], 0)
    return out


def cross_entropy(
    statistics: RowStatistics,
    weights: tuple[float, ...] | None,
    *,
    keep: float = 1.0,
    spread: float = 0.0,
) -> RowTerms:
    """Return -sum_c a_c log p_c with a = w * (keep*t + spread): cross-entropy linear in the label.

    Args:
        statistics: rows that were measured.
        weights: class weights w, ``None`` for ones.
        keep: share of the label that stays where it is.
        spread: share that every class is given.
    """
    constants = statistics.constants
    w = None if weights is None else constants.vector(weights)
    if statistics.targets is not None:
        a = statistics.targets * keep + spread
        return _dense_cross_entropy(statistics, a if w is None else a * w)
    label_weight = torch.ones_like(statistics.others) if w is None else w[statistics.pivot].double()
    loss = statistics.pivot_surprise
    if w is not None:
        loss = times(label_weight, loss)
    if not spread:
        # keep is 1 here: without a spread nothing is taken from the label.
        return RowTerms(
            loss=loss,
            scale=label_weight,
            subtract=None,
            at_label=-label_weight * statistics.pivot_complement,
        )
    if w is None:
        w = constants.vector((1.0,)).expand(statistics.classes)
    total = w.double().sum()
    spread_loss = total * statistics.log_partition - weighted_sum(statistics.shifted, w)
    loss = keep * loss + spread * spread_loss
    scale = keep * label_weight + spread * total
    # keep may be negative (two classes, most of the label spread to the other one): inf - inf.
    lost = statistics.pivot_surprise.isinf() & (label_weight > 0)
    return RowTerms(
        loss=loss.masked_fill(lost, torch.inf),
        scale=scale,
        subtract=spread * w,
        at_label=spread * (total - label_weight) - scale * statistics.pivot_complement,
    )


def _dense_cross_entropy(statistics: RowStatistics, a: Tensor) -> RowTerms:
    total = a.double().sum(dim=1)
    return RowTerms(
        loss=total * statistics.log_partition - weighted_sum(statistics.shifted, a),
        scale=total,
        subtract=a,
        at_label=None,
    )


def weighted_sum(shifted: Tensor, weights: Tensor) -> Tensor:
    """Return sum_c weights_c * shifted_c in float64, (rows,), where 0 * -inf counts as 0."""
    sums = (shifted * weights).sum(dim=1)
    if sums.isnan().any():
        sums = times(weights.expand_as(shifted), shifted).sum(dim=1)
    return sums.double()


def times(weight: Tensor, value: Tensor) -> Tensor:
    """Return weight * value, and 0 wherever the weight is 0, whatever the value."""
    return torch.where(weight == 0, 0.0, weight * value)
