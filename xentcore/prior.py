"""The prior predictor: every row is given the class frequencies of the batch as probabilities.

    pi_c = sum_r s_r t_rc / sum_r s_r over the evaluated rows, s sample weights, t labels as sent
    softmax family: z_c = log pi_c; sigmoid family: x_c = log pi_c - log (1 - pi_c)

Its loss, with all weights as in any loss, is what a model's loss is divided by to give normalised
entropy (He et al., ADKDD 2014). All rows have the same logits, so it needs no more rows than there
are different labels:

- A label that is one class: one row for each class that is present, which weighs what the rows of
  the class weigh together. They are never more than the rows of the batch.
- Yes or no for each class: elements do not know of each other. Two rows, all yes and all no.
- Distributions: the labels are read once more, each row with its own.

A loss that is a difference may cancel: ``confidence-penalty`` with beta = 1 is 0 in sum, whatever
the frequencies. What is left is rounding, which depends on the order of the rows, and must not be
divided by: below 1e-12 of what it is made of, a sum is 0.

All of it in blocks and in float64: rounded to float32, the logarithm of a sum would not be the same
to twelve digits however the sum was split.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Protocol, TypeVar, cast

import torch
from torch import Tensor

from xentcore.chunk import BlockRows, Chunk
from xentcore.constants import Constants
from xentcore.gradients import ScoredParts
from xentcore.layout import Block, Layout
from xentcore.options import LabelKind, Options
from xentcore.per_class import Sums
from xentcore.row_statistics import RowStatistics, Swept, times
from xentcore.scoring import Scored
from xentcore.tally import Inquiry

T = TypeVar("T")
Added = Sequence[tuple[float, float]]
"""The sums of the losses of each spec, and of their magnitudes."""

_ROUNDING: Final = 1e-12  # of a sum, relative to that of the magnitudes

# An infinite loss of the prior is an answer, and its labels were read before.
_OPTIONS: Final = Options(nonfinite="propagate", ignore_index=None)


class EachBlock(Protocol):
    """The loop over the blocks of a chunk."""

    def __call__(self, chunk: Chunk, work: Callable[[Block], T]) -> Iterator[T]:
        """Yield what the work makes of each block, in the order of the rows."""
        ...


@dataclass(frozen=True, slots=True)
class Mass:
    """What the labels of evaluated rows weigh, per class.

    Attributes:
        positive: sum of s_r * t_rc, (classes,), float64.
        negative: sum of s_r * (1 - t_rc), the same; sigmoid family only.
    """

    positive: Tensor
    negative: Tensor | None

    @classmethod
    def of(cls, sums: Sums) -> "Mass":
        """Return the mass that :meth:`xentcore.scoring.Scored.comparison_sums` summed."""
        negative = sums.get("negative_weight")
        positive = sums.get("positive_weight", torch.zeros(0, dtype=torch.float64))
        return cls(positive.cpu(), None if negative is None else negative.cpu())

    @property
    def total(self) -> float:
        """What all labels weigh; 0 leaves the frequencies undefined."""
        everything = self.positive if self.negative is None else self.positive + self.negative
        return float(everything.sum())

    def logits(self) -> Tensor:
        """Return the prior's logits, (classes,); -inf where a class is absent."""
        if self.negative is None:
            return (self.positive / self.positive.sum()).log()
        return self.positive.log() - self.negative.log()


def prior_sum(
    inquiry: Inquiry,
    mass: Mass,
    kind: LabelKind,
    *,
    each_block: EachBlock,
    device: torch.device,
) -> float | None:
    """Return the prior's loss for the one spec of an inquiry; labels are no distributions.

    ``None`` where it is not finite or not positive: nothing can be divided by it.
    """
    if not mass.total:
        return None
    (spec,) = inquiry.specs
    # A rank says yes or no to each threshold: the prior's labels are those answers.
    answered: LabelKind = "multi_hot" if spec.reading(kind) == "ranks" else kind
    prior = Prior(inquiry, mass, answered, each_block=each_block, device=device)
    (loss,) = prior.losses((), torch.empty(0, dtype=torch.bool))
    return loss if 0 < loss < math.inf else None


class Prior:
    """The prior predictor of specs that are of one family and evaluated the same rows.

    Args:
        inquiry: the specs.
        mass: of the labels of the rows.
        kind: of the labels.
        each_block: the loop over blocks.
        device: where to compute.
    """

    def __init__(
        self,
        inquiry: Inquiry,
        mass: Mass,
        kind: LabelKind,
        *,
        each_block: EachBlock,
        device: torch.device,
    ) -> None:
        self._inquiry = replace(inquiry, options=_OPTIONS)
        self._mass = mass
        self._kind = kind
        self._each_block = each_block
        self._constants = Constants(dtype=torch.float64, device=device)

    @cached_property
    def _logits(self) -> Tensor:
        return self._mass.logits()

    def losses(self, chunks: Sequence[Chunk], evaluated: Tensor) -> list[float]:
        """Return the sum of the prior's loss for each spec, nats; +inf where it is infinite.

        A sum that cancels is 0.

        Args:
            chunks: the batch, where labels are distributions; not read otherwise.
            evaluated: which of its rows are, (rows,), bool.
        """
        if self._kind == "probabilities":
            found = self._of_distributions(chunks, evaluated)
        elif self._kind in ("multi_hot", "binary"):
            found = self._of_elements()
        else:
            found = self._of_classes()
        totals = [[0.0, 0.0] for _ in self._inquiry.specs]
        for sums in found:
            for total, (loss, magnitude) in zip(totals, sums, strict=True):
                total[0] += loss
                total[1] += magnitude
        return [0.0 if abs(loss) < _ROUNDING * magnitude else loss for loss, magnitude in totals]

    def _of_classes(self) -> Iterator[Added]:
        present = self._mass.positive.nonzero()[:, 0]
        specs = self._inquiry.specs
        if self._mass.negative is None and all(
            spec.source_of_rows == "measured" and spec.transformation is None for spec in specs
        ):
            body = self._known(present)
            weights = self._mass.positive[present]
            yield _added([[spec.score(body, weights, _OPTIONS)] for spec in specs])
            return
        labels = present
        if self._kind == "one_hot":
            labels = torch.zeros(len(present), len(self._logits), dtype=torch.bool)
            labels.scatter_(1, present[:, None], True)
        chunk = self._chunk(labels, self._mass.positive[present])
        yield from self._each_block(chunk, lambda block: self._sums(chunk, chunk.read(block)))

    def _of_elements(self) -> Iterator[Added]:
        positive, negative = self._mass.positive, cast("Tensor", self._mass.negative)
        for label, mass in ((1.0, positive), (0.0, negative)):
            chunk = self._chunk(torch.full((1, len(positive)), label), None)
            for columns in self._each_block(chunk, self._class_losses(chunk)):
                # Hard labels of the sigmoid family: no loss is negative, and none cancels.
                sums = (times(mass, column).sum().item() for column in columns)
                yield [(each, each) for each in sums]

    def _class_losses(self, chunk: Chunk) -> Callable[[Block], list[Tensor]]:
        def read(block: Block) -> list[Tensor]:
            found = self._scored(chunk, chunk.read(block))
            return [parts[0][1].comparison_sums()["loss_sum"].cpu() for parts in found]

        return read

    def _of_distributions(self, chunks: Sequence[Chunk], evaluated: Tensor) -> Iterator[Added]:
        first = 0
        for chunk in chunks:
            chosen = evaluated[first : first + chunk.layout.rows]
            first += chunk.layout.rows
            yield from self._each_block(chunk, self._with_own_labels(chunk, chosen))

    def _with_own_labels(self, chunk: Chunk, evaluated: Tensor) -> Callable[[Block], Added]:
        def read(block: Block) -> Added:
            rows = chunk.read(block)
            chosen = evaluated[block.start : block.stop].nonzero()[:, 0].to(rows.values.device)
            if not len(chosen):
                return [(0.0, 0.0)] * len(self._inquiry.specs)
            rows = rows.select(chosen)
            targets = rows.labels.values.double()
            if rows.labels.is_index:
                index = rows.labels.values[:, None]
                targets = torch.zeros_like(rows.values, dtype=torch.float64).scatter_(1, index, 1.0)
            alike = self._chunk(targets, rows.weights)
            (whole,) = alike.layout.blocks(len(targets))
            return self._sums(alike, alike.read(whole))

        return read

    def _chunk(self, labels: Tensor, weights: Tensor | None) -> Chunk:
        """Return rows with these labels, all of which have the prior's logits."""
        logits = self._logits.to(labels.device).expand(len(labels), -1)
        return Chunk(
            logits,
            labels,
            weights,
            layout=Layout.of(logits.shape, 1),
            kind=self._kind,
            options=_OPTIONS,
            constants=self._constants,
            readings={"elements"},  # every label of the prior is a legal one
        )

    def _known(self, present: Tensor) -> RowStatistics:
        """Return the rows of the prior, one for each class that is present, without a pass.

        A few numbers per row tell all. Up to a factor, exp u is the mass of the class.
        """
        most, largest = self._mass.positive.max(dim=0)
        shares = self._mass.positive / most
        logarithms = shares.log()
        # The sum of all but one, and no digit lost: all of it holds the largest, 1, from which less
        # is taken; and what is left of the largest is added up by itself.
        powers = torch.stack((shares, shares.square()))
        powers[:, largest] = 0
        rest = powers.sum(dim=1, keepdim=True)
        others = (rest + 1) - powers
        others[:, largest] = rest[:, 0]
        maximum = torch.zeros(len(present), dtype=torch.float64)
        logits = logarithms.expand(len(present), -1)
        of_others, of_squares = others[:, present]
        measured = (logarithms[present], of_others, of_squares, largest.expand(len(present)))
        swept = Swept(maximum, measured, None)
        return RowStatistics(logits, maximum, present, None, self._constants, "rows", swept)

    def _sums(self, chunk: Chunk, rows: BlockRows) -> Added:
        return _added([[each for _, each in parts] for parts in self._scored(chunk, rows)])

    def _scored(self, chunk: Chunk, rows: BlockRows) -> list[ScoredParts]:
        found = {place: parts for place, _, parts in self._inquiry.score(chunk, rows)}
        return [found[place] for place in range(len(found))]


def _added(found: Sequence[Sequence[Scored]]) -> Added:
    return [
        (
            sum(each.fate.total for each in parts),
            sum(each.magnitude.sum().item() for each in parts),
        )
        for parts in found
    ]
