"""What is known about rows of logits, and what losses and gradients are made of it.

Columns with one number per row are float64, so that a row's numbers do not depend on which rows it
was evaluated with; they come from the passes of :mod:`xentcore.softmax`, each run when the first
column that needs it is asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from xentcore.constants import Constants
from xentcore.device import block_rows
from xentcore.memory import Lease, lend
from xentcore.passes import Passes

Scope = Literal["rows", "columns", "spread", "everything"]
"""What will be asked about rows: numbers of each, also sums over rows or gradients, also entropies,
also ranks."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What was measured of rows beforehand, the pivot being the label.

    Attributes:
        maximum: the largest logit of each, (rows,).
        measured: what the pass tells of each, (rows,): ``measure`` of :mod:`xentcore.softmax`,
            ``measure_spreading`` or ``survey``.
        probability_sums: sum over rows of p at the classes but the label, (classes,), float64;
            ``None`` where only rows were asked about.
        total: the sum of u over all classes, (rows,), float64; ``None`` where nobody asked.
        scope: what was asked of the pass.
    """

    maximum: Tensor
    measured: tuple[Tensor, ...]
    probability_sums: Tensor | None
    total: Tensor | None = None
    scope: Scope = "rows"


@dataclass(frozen=True)
class RowStatistics:
    """Rows of finite or -inf logits, measured.

    Attributes:
        logits: z, (rows, classes), contiguous, in the compute dtype.
        maximum: max z, (rows,).
        pivot: the class left out of ``others``, (rows,): the label where there is one, the
            prediction otherwise.
        targets: label distributions (rows, classes), or ``None`` where the pivot is the label.
        constants: per-class settings as tensors, and the passes.
        scope: what will be asked, so that one pass tells it all.
        swept: what is known already; ``None`` for nothing.
    """

    logits: Tensor
    maximum: Tensor
    pivot: Tensor
    targets: Tensor | None
    constants: Constants
    scope: Scope
    swept: Swept | None = None

    @property
    def classes(self) -> int:
        """How many classes a row has."""
        return self.logits.shape[1]

    @cached_property
    def blank(self) -> Tensor | None:
        """Rows of -inf alone, (rows,), bool; ``None`` for none."""
        return None if (self.maximum.min() > -torch.inf) else self.maximum.isneginf()

    @cached_property
    def anchor(self) -> Tensor:
        """What u = z - anchor is measured from: max z; 0 in rows of -inf alone, (rows,)."""
        return self.maximum if self.blank is None else anchored(self.maximum)

    @property
    def _told(self) -> Scope:
        """What the one pass over the rows tells."""
        if self.swept is not None:
            return self.swept.scope
        # Of distributions the pivot is the prediction, which ranks are not about.
        surveyed = self.scope == "everything" and self.targets is not None
        return "spread" if surveyed else self.scope

    @cached_property
    def _measured(self) -> tuple[Tensor, ...]:
        if self.swept is not None:
            return self.swept.measured
        passes, told = self.constants.passes, self._told
        return (
            passes.measure(*self._rows)
            if told == "rows"
            else keeping(passes, told)(*self._rows, self._room)
        )

    @cached_property
    def _room(self) -> Tensor:
        """Where exp u is written down."""
        return lend(self, self._laid_out)

    @cached_property
    def _kept(self) -> Tensor:
        """Exp u with the pivot's entry 0, (rows, classes), as the passes like it in memory."""
        if self.scope == "rows" or self.swept is not None:
            self.constants.passes.measure_keeping(*self._rows, self._room)
        else:
            _ = self._measured
        return self._room

    @cached_property
    def _laid_out(self) -> Tensor:
        return self.constants.passes.laid_out(self, self.logits)

    @property
    def _rows(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self._laid_out, self.anchor, self.pivot, self.constants.places(self.classes)

    @property
    def pivot_shifted(self) -> Tensor:
        """U at the pivot, (rows,)."""
        return self._measured[0]

    @property
    def others(self) -> Tensor:
        """Sum over classes but the pivot of exp u, (rows,)."""
        return self._measured[1]

    @property
    def others_squared(self) -> Tensor:
        """Sum over classes but the pivot of (exp u)^2, (rows,)."""
        return self._measured[2]

    @property
    def prediction(self) -> Tensor:
        """The class of the largest logit, the first of equals, (rows,)."""
        return self._measured[3]

    @cached_property
    def shifted(self) -> Tensor:
        """U = z - max z, (rows, classes); for the few who need the matrix."""
        return self.logits - self.anchor[:, None]

    @cached_property
    def exp_others(self) -> Tensor:
        """Exp u with the pivot's entry 0, (rows, classes); for the few who need the matrix."""
        return self._kept.contiguous()

    @cached_property
    def _derived(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.constants.passes.derive(self.pivot_shifted, self.others)

    @property
    def pivot_exp(self) -> Tensor:
        """Exp u at the pivot, (rows,)."""
        return self._derived[0]

    @property
    def partition(self) -> Tensor:
        """Sum exp u, (rows,); at least 1 wherever a logit is finite."""
        return self._derived[1]

    @property
    def log_partition(self) -> Tensor:
        """Log sum exp u, (rows,)."""
        return self._derived[2]

    @cached_property
    def pivot_probability(self) -> Tensor:
        """P at the pivot, (rows,)."""
        return self.pivot_exp / self.partition

    @property
    def pivot_complement(self) -> Tensor:
        """1 - p at the pivot without cancellation, (rows,)."""
        return self._derived[3]

    @property
    def pivot_surprise(self) -> Tensor:
        """-log p at the pivot, (rows,); +inf where its logit is -inf."""
        return self._derived[4]

    @cached_property
    def label(self) -> Tensor:
        """The label; for distributions its most probable class, the first of equals, (rows,)."""
        return self.pivot if self.targets is None else self.targets.argmax(dim=1)

    @cached_property
    def support(self) -> Tensor:
        """How many rows have the class as their label, (classes,), int64."""
        return torch.bincount(self.label, minlength=self.classes)

    @cached_property
    def may_vanish(self) -> bool:
        """Whether a loss may be too small to tell from 0: no row has anything but its pivot."""
        return not self.others.min() > 0

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
        return self.log_partition - (self._spread + pivot_part) / self.partition

    @cached_property
    def _spread(self) -> Tensor:
        if self._told in ("spread", "everything"):
            return self._measured[4]
        return self.constants.passes.spread(*self._rows)

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
    def _ranking(self) -> tuple[Tensor, Tensor, Tensor]:
        if self._told == "everything":
            return self.pivot_shifted, *self._measured[5:]  # type: ignore[return-value]
        places = self.constants.places(self.classes)
        return self.constants.passes.ranking(self.logits, self.anchor, self.label, places)

    @property
    def rank(self) -> Tensor:
        """Classes whose logit is larger than the label's, (rows,)."""
        return self._ranking[2]

    @property
    def margin(self) -> Tensor:
        """The label's logit less the largest other one, (rows,)."""
        at_label, runner_up, _ = self._ranking
        return at_label - runner_up

    @cached_property
    def total(self) -> Tensor:
        """Sum over all classes of u, (rows,)."""
        if self.swept is not None and self.swept.total is not None:
            return self.swept.total
        return self.weighted_sum(self.constants.ones(self.classes))

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Return sum_c w_c u_c, (rows,), 0 * -inf counted as 0.

        Args:
            weights: (classes,) or (rows, classes), in the compute dtype.
        """
        return self.constants.passes.weighted_sum(self.logits, self.anchor, weights)

    def write_scaled(self, factors: Tensor, at_pivot: Tensor, into: Tensor) -> None:
        """Write factors[row] * exp u[row, class], ``at_pivot`` at pivots, (rows, classes)."""
        places = self.constants.places(self.classes)
        passes = self.constants.passes
        passes.write_scaled(self._kept, self.pivot, places, factors, at_pivot, into)

    def write_tilted(self, factors: Tensor, tilt: Tensor, at_pivot: Tensor, into: Tensor) -> None:
        """Write (factors[row] + tilt[row] u) * exp u, ``at_pivot`` at pivots, (rows, classes)."""
        passes = self.constants.passes
        passes.write_tilted(self._kept, *self._rows, factors, tilt, at_pivot, into)

    @cached_property
    def probability_sums(self) -> Tensor:
        """Sum over rows of p at the classes but the pivot, (classes,)."""
        known = None if self.swept is None else self.swept.probability_sums
        return self.others_sums(self.confidence) if known is None else known

    def others_sums(self, factors: Tensor) -> Tensor:
        """Return sum over rows of factors[row] * exp u[row, class] but at pivots, (classes,)."""
        passes = self.constants.passes
        step = block_rows(self.classes, factors.device, elements=passes.strip_elements)
        if factors.shape[0] <= step:
            return passes.column_sums(self._kept, factors)
        sums = torch.zeros(self.classes, dtype=torch.float64, device=factors.device)
        for start in range(0, factors.shape[0], step):
            rows = slice(start, start + step)
            sums += passes.column_sums(self._kept_of(rows), factors[rows])
        return sums

    def _kept_of(self, rows: slice) -> Tensor:
        if self.swept is None:
            return self._kept[rows]
        # Too much to be written down at once, and only once asked for: computed again.
        lease, passes = Lease(), self.constants.passes
        strip = passes.laid_out(lease, self.logits[rows])
        columns = self.anchor[rows], self.pivot[rows], self.constants.places(self.classes)
        kept = lend(lease, strip)
        passes.measure_keeping(strip, *columns, kept)
        return kept


@dataclass(frozen=True, slots=True)
class RowTerms:
    """A variant's loss per row, and what its gradient consists of.

    The gradient of a row is ``(scale + tilt * u) * p - subtract``, u = z - max z; with hard labels
    its entry at the label is ``at_label`` instead, where the difference would cancel.

    Attributes:
        loss: (rows,), nats, +inf where the variant's loss is.
        scale: (rows,).
        subtract: returns it, (classes,) or (rows, classes): only gradients need it. ``None`` for
            nothing.
        at_label: (rows,), or ``None`` for distribution labels.
        magnitude: where the loss is a difference, the sum of what it is made of, signs aside,
            (rows,): what rounding is relative to. ``None``: that of the loss itself.
        tilt: (rows,); ``None`` for zeros.
    """

    loss: Tensor
    scale: Tensor
    subtract: Callable[[], Tensor] | None
    at_label: Tensor | None
    magnitude: Tensor | None = None
    tilt: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the gradient is ``scale * p`` but at the label: no more than numbers per row."""
        return self.subtract is None and self.tilt is None and self.at_label is not None


def row_statistics(
    logits: Tensor,
    maximum: Tensor,
    labels: Tensor,
    constants: Constants,
    *,
    scope: Scope = "rows",
    swept: Swept | None = None,
) -> RowStatistics:
    """Describe rows of finite or -inf logits.

    Args:
        logits: (rows, classes), contiguous, in the compute dtype.
        maximum: the largest logit per row, (rows,).
        labels: the class of each row, int64, (rows,); or label distributions, (rows, classes).
        constants: per-class settings as tensors, and the passes.
        scope: what will be asked; anything may be.
        swept: what is known already; ``None`` for nothing.
    """
    targets, pivot = None, labels
    if labels.dim() > 1:
        places = constants.places(logits.shape[1])
        targets, pivot = labels, constants.passes.first_peak(logits, anchored(maximum), places)
    return RowStatistics(logits, maximum, pivot, targets, constants, scope, swept)


def keeping(passes: Passes, scope: Scope) -> Callable[..., tuple[Tensor, ...]]:
    """Return the pass that tells what will be asked, and writes exp u down."""
    if scope == "everything":
        return passes.survey
    return passes.measure_spreading if scope == "spread" else passes.measure_keeping


def anchored(maximum: Tensor) -> Tensor:
    """Return what u is measured from: the maximum, 0 in rows of -inf alone, (rows,)."""
    # A row of -inf alone has no maximum to subtract; it stays -inf and its loss is +inf.
    return maximum.masked_fill(maximum.isneginf(), 0)


def gradient(
    statistics: RowStatistics, terms: RowTerms, factors: Tensor, into: Tensor | None = None
) -> Tensor:
    """Return factors[row] * d loss[row] / d logits, (rows, classes) in the compute dtype.

    Exactly 0 in rows whose factor is 0, whatever the terms hold there.

    Args:
        statistics: the rows.
        terms: a variant's terms for them.
        factors: (rows,), float64.
        into: where to write it, contiguous, of the logits' shape and dtype; ``None`` for a tensor
            of its own.
    """
    dtype = statistics.logits.dtype
    scale = times(factors, terms.scale / statistics.partition)
    if terms.at_label is None:
        at_pivot = scale * statistics.pivot_exp
    else:
        at_pivot = times(factors, terms.at_label)
    out = torch.empty_like(statistics.logits) if into is None else into
    if terms.tilt is None:
        statistics.write_scaled(scale.to(dtype), at_pivot.to(dtype), out)
    else:
        tilt = times(factors, terms.tilt / statistics.partition)
        statistics.write_tilted(scale.to(dtype), tilt.to(dtype), at_pivot.to(dtype), out)
    if terms.subtract is not None:
        out.addcmul_(terms.subtract().expand_as(out), factors[:, None].to(dtype), value=-1)
        if terms.at_label is not None:
            out.scatter_(1, statistics.pivot[:, None], at_pivot[:, None].to(dtype))
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
    loss, q = statistics.pivot_surprise, statistics.pivot_complement
    if w is None and not spread:
        return RowTerms(loss=loss, scale=torch.ones_like(q), subtract=None, at_label=-q)
    label_weight = torch.ones_like(q) if w is None else w[statistics.pivot].double()
    if w is not None:
        loss = times(label_weight, loss)
    if not spread:
        # keep is 1 here: without a spread nothing is taken from the label.
        return RowTerms(loss=loss, scale=label_weight, subtract=None, at_label=-label_weight * q)
    shifted_sum = statistics.total if w is None else statistics.weighted_sum(w)
    if w is None:
        w = constants.ones(statistics.classes)
    total = w.double().sum()
    spread_loss = total * statistics.log_partition - shifted_sum
    loss = keep * loss + spread * spread_loss
    scale = keep * label_weight + spread * total
    # keep may be negative (two classes, most of the label spread to the other one): inf - inf.
    lost = statistics.pivot_surprise.isinf() & (label_weight > 0)
    return RowTerms(
        loss=loss.masked_fill(lost, torch.inf),
        scale=scale,
        subtract=lambda: spread * w,
        at_label=spread * (total - label_weight) - scale * q,
    )


def _dense_cross_entropy(statistics: RowStatistics, a: Tensor) -> RowTerms:
    total = a.double().sum(dim=1)
    return RowTerms(
        loss=total * statistics.log_partition - statistics.weighted_sum(a),
        scale=total,
        subtract=lambda: a,
        at_label=None,
    )


def times(weight: Tensor, value: Tensor) -> Tensor:
    """Return weight * value, and 0 wherever the weight is 0, whatever the value."""
    return torch.where(weight == 0, 0.0, weight * value)
