"""What specs are compared by beside their own sums: dot products, and columns of the rows.

Dot products add up. Rank correlations have no sums: they need every row's loss until the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xentcore.chunk import BlockRows
from xentcore.gradient_dots import gradient_dots
from xentcore.gradients import ScoredParts


@dataclass(slots=True)
class Contrast:
    """Dot products and columns of any number of rows.

    Attributes:
        dots: of the gradients of the sums of the losses, (specs, specs), float64.
        losses: per spec, what each row's loss is before sample weights, in parts that follow one
            another, (rows,), float64; NaN where the row is not evaluated or its loss not finite.
        labels: each row's class, or its most probable one, in such parts, int64; none where no
            spec is of the softmax family.
        weights: sample weights in such parts, float64.
    """

    dots: Tensor
    losses: tuple[list[Tensor], ...]
    labels: list[Tensor]
    weights: list[Tensor]

    @classmethod
    def empty(cls, specs: int) -> "Contrast":
        """Return what is known before the first row: merging it changes nothing."""
        dots = torch.zeros(specs, specs, dtype=torch.float64)
        return cls(dots, tuple([] for _ in range(specs)), [], [])

    @classmethod
    def of(cls, rows: BlockRows, scored: Sequence[ScoredParts], *, softmax: bool) -> "Contrast":
        """Return what a block adds.

        Args:
            rows: the block.
            scored: its rows that can be evaluated, per spec.
            softmax: whether a spec is of the softmax family.
        """
        found = cls.empty(len(scored))
        for column, parts in zip(found.losses, scored, strict=True):
            losses = [(part.positions, each.row_losses()) for part, each in parts]
            column.append(rows.column(losses).cpu())
        if softmax:
            labels = rows.labels
            index = labels.values if labels.is_index else labels.values.argmax(dim=1)
            found.labels.append(index.cpu())
        # One number stands for all where there are no weights.
        weights = torch.ones(1, dtype=torch.float64).expand(len(rows.values))
        found.weights.append(weights if rows.weights is None else rows.weights.cpu())
        if len(scored) > 1:
            found.dots = gradient_dots(scored, rows.values)
        return found

    def merge(self, other: "Contrast") -> None:
        """Add what another part of the batch adds; its rows follow this one's."""
        # Not in place: an empty one may have been handed the tensor of another.
        self.dots = self.dots + other.dots
        for mine, theirs in zip(self.losses, other.losses, strict=True):
            mine += theirs
        self.labels += other.labels
        self.weights += other.weights


def joined(parts: Sequence[Tensor], dtype: torch.dtype = torch.float64) -> Tensor:
    """Return a column whose parts follow one another, (rows,)."""
    return torch.cat([torch.empty(0, dtype=dtype), *parts])
