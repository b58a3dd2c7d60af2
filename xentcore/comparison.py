"""From what specs are compared by to what can be compared between them.

Losses of different variants have different units. What can be compared of each is its loss over
that of the prior predictor, and each class's share of it; of each pair, how alike they order the
rows and how alike they would change the logits.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import torch
from torch import Tensor

from xentcore.chunk import Chunk
from xentcore.contrast import Contrast, joined
from xentcore.options import LabelKind
from xentcore.per_class import loss_shares
from xentcore.prior import EachBlock, Mass, Prior
from xentcore.ranks import centred_ranks, correlation
from xentcore.result import (
    ComparedPair,
    ComparedVariant,
    Comparison,
    NoCosine,
    NoEntropy,
    NoSpearman,
)
from xentcore.spec import BoundSpec
from xentcore.tally import Inquiry, Tally


class Columns:
    """What is known of each row, whole, and the ranks made of it.

    Attributes:
        losses: per spec, before sample weights, (rows,), float64; NaN where not evaluated.
        evaluated: per spec, where they are finite, (rows,), bool.
        groups: per spec, the first one that evaluated the same rows.
        labels: the class of each row, (rows,), int64; empty without specs of the softmax family.
        weights: sample weights, (rows,), float64.
    """

    def __init__(self, contrast: Contrast) -> None:
        self.losses = [joined(parts) for parts in contrast.losses]
        self.evaluated = [column.isfinite() for column in self.losses]
        self.groups = [
            next(place for place, mask in enumerate(self.evaluated) if mask.equal(own))
            for own in self.evaluated
        ]
        self.labels = joined(contrast.labels, torch.int64)
        self.weights = joined(contrast.weights)
        self._ranks: dict[tuple[int, frozenset[int]], Tensor] = {}

    def shared(self, a: int, b: int) -> Tensor:
        """Return which rows two specs evaluated, and that weigh something, (rows,), bool."""
        return self.evaluated[a] & self.evaluated[b] & (self.weights > 0)

    def spearman(self, a: int, b: int, rows: Tensor) -> float | None:
        """Return the rank correlation over the rows that :meth:`shared` returned; two at least."""
        both = frozenset((self.groups[a], self.groups[b]))
        weights = self.weights[rows]
        for place in (a, b):
            # Specs that evaluated the same rows, as most do, are ranked once for all pairs.
            if (place, both) not in self._ranks:
                self._ranks[place, both] = centred_ranks(self.losses[place][rows], weights)
        return correlation(self._ranks[a, both], self._ranks[b, both], weights)

    def per_class(self, place: int, values: Tensor, classes: int) -> Tensor:
        """Return the sum of values per class over the rows that a spec evaluated, (classes,)."""
        rows = self.evaluated[place]
        return torch.bincount(self.labels[rows], values[rows], minlength=classes)


@dataclass(slots=True)
class Compared:
    """A batch that was evaluated, and what it is compared by.

    Attributes:
        inquiry: what was asked.
        tallies: per spec.
        contrast: the dot products and the columns.
        kind: of the labels; ``None`` where no row decided it.
        classes: how many.
        chunks: the batch, where labels may be distributions.
    """

    inquiry: Inquiry
    tallies: Sequence[Tally]
    contrast: Contrast
    kind: LabelKind | None
    classes: int
    chunks: Sequence[Chunk]
    columns: Columns = field(init=False)

    def __post_init__(self) -> None:
        self.columns = Columns(self.contrast)

    def comparison(self, *, each_block: EachBlock, device: torch.device) -> Comparison:
        """Return what can be compared.

        Args:
            each_block: the loop over the blocks of a chunk.
            device: where the prior's losses are computed.
        """
        priors: dict[int, float] = {}
        for alike in self._alike():
            priors |= self._prior_sums(alike, each_block, device)
        places = range(len(self.tallies))
        return Comparison(
            variants=tuple(self._variant(place, priors.get(place)) for place in places),
            pairs=tuple(self._pair(a, b) for a, b in combinations(places, 2)),
        )

    def _alike(self) -> Iterator[list[int]]:
        """Yield specs that have a prior in common: of one family and reading, on the same rows."""
        keys = [
            (spec.family(self.kind), self._about_ranks(spec), group)
            for spec, group in zip(self.inquiry.specs, self.columns.groups, strict=True)
        ]
        for key in dict.fromkeys(keys):
            yield [place for place, own in enumerate(keys) if own == key]

    def _prior_sums(
        self, places: Sequence[int], each_block: EachBlock, device: torch.device
    ) -> dict[int, float]:
        """Return the prior's loss for specs that have it in common; none where there is none."""
        mass = self._mass(places[0])
        if self.kind is None or not mass.total:
            return {}
        specs = tuple(self.inquiry.specs[place] for place in places)
        # A rank says yes or no to each threshold: the prior's labels are those answers.
        kind = "multi_hot" if self._about_ranks(specs[0]) else self.kind
        prior = Prior(
            replace(self.inquiry, specs=specs),
            mass,
            kind,
            each_block=each_block,
            device=device,
        )
        evaluated = self.columns.evaluated[places[0]]
        return dict(zip(places, prior.losses(self.chunks, evaluated), strict=True))

    def _about_ranks(self, spec: BoundSpec) -> bool:
        return self.kind is not None and spec.reading(self.kind) == "ranks"

    def _mass(self, place: int) -> Mass:
        sums = self.tallies[place].summary.classes
        if "positive_weight" not in sums:
            columns = self.columns
            return Mass(columns.per_class(place, columns.weights, self.classes), None)
        return Mass.of(sums)

    def _variant(self, place: int, prior_sum: float | None) -> ComparedVariant:
        undefined = self._no_entropy(place, prior_sum)
        entropy: float | None = None
        if prior_sum is not None and undefined is None:
            entropy = self.tallies[place].summary.loss_sum / prior_sum
        return ComparedVariant(
            name=self.inquiry.specs[place].name,
            prior_sum=prior_sum,
            normalised_entropy=entropy,
            undefined=undefined,
            class_share=loss_shares(
                self._class_losses(place), self.inquiry.options.per_class_limit
            ),
        )

    def _no_entropy(self, place: int, prior_sum: float | None) -> NoEntropy | None:
        """Return why a spec has no normalised entropy, or ``None`` where it has one."""
        summary = self.tallies[place].summary
        if prior_sum is None:
            return "zero_weight" if summary.rows.evaluated else "no_rows"
        if not math.isfinite(summary.loss_sum):
            return "loss_not_finite"
        if not math.isfinite(prior_sum):
            return "prior_loss_infinite"
        return None if prior_sum > 0 else "prior_loss_not_positive"

    def _class_losses(self, place: int) -> Tensor:
        """Return the sum of the loss per class, (classes,), float64."""
        summary, columns = self.tallies[place].summary, self.columns
        if not math.isfinite(summary.loss_sum):
            return torch.full((self.classes,), torch.nan, dtype=torch.float64)
        if "loss_sum" in summary.classes:
            return summary.classes["loss_sum"].cpu()
        return columns.per_class(place, columns.weights * columns.losses[place], self.classes)

    def _pair(self, a: int, b: int) -> ComparedPair:
        shared = self.columns.shared(a, b)
        rows = int(shared.sum())
        spearman: float | None = None
        no_spearman: NoSpearman | None = "too_few_rows"
        if rows > 1:
            spearman = self.columns.spearman(a, b, shared)
            no_spearman = "constant_loss" if spearman is None else None
        cosine, no_cosine = _cosine(self.contrast.dots, a, b)
        return ComparedPair(
            a=a,
            b=b,
            rows=rows,
            spearman=spearman,
            spearman_undefined=no_spearman,
            gradient_cosine=cosine,
            gradient_cosine_undefined=no_cosine,
        )


def _cosine(dots: Tensor, a: int, b: int) -> tuple[float | None, NoCosine | None]:
    product, own, other = (float(dots[i, j]) for i, j in ((a, b), (a, a), (b, b)))
    if not all(map(math.isfinite, (product, own, other))):
        return None, "gradient_not_finite"
    if not (own and other):
        return None, "zero_gradient"
    return max(-1.0, min(1.0, product / (own**0.5 * other**0.5))), None
