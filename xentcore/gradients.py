"""Gradients of a batch, block by block: put together of a block's parts, written where they belong.

A gradient is as large as the logits, and what it costs is memory: every page of it is touched for
the first time. It is written once, straight to its place, while the block's logits are at hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xentcore.chunk import Rows
from xentcore.layout import Block
from xentcore.scoring import Scored

ScoredParts = Sequence[tuple[Rows, Scored]]
"""The parts of a block that can be evaluated, each with its rows under one variant."""


@dataclass(frozen=True, slots=True)
class Gradients:
    """The gradients of a chunk, one per spec, on the CPU.

    Attributes:
        scales: what the gradient of each spec's sum is multiplied by.
        tensors: of the chunk's shape.
        views: of the tensors, with the class axis last.
    """

    scales: tuple[float, ...]
    tensors: tuple[Tensor, ...]
    views: tuple[Tensor, ...]

    def write(self, place: int, parts: ScoredParts, block: Block, like: Tensor) -> None:
        """Write a spec's gradient for a block, 0 in the rows that are not in its parts.

        Args:
            place: of the spec.
            parts: its rows of the block.
            block: which.
            like: the block's logits, (rows, classes), for shape, dtype and device.
        """
        into, scale = self.views[place][block.index], self.scales[place]
        fits = into.shape == like.shape and into.dtype == like.dtype and into.device == like.device
        if fits and into.is_contiguous() and _is_whole(parts, like):
            parts[0][1].gradient(scale, into)
        else:
            into.copy_(block_gradient(parts, like, scale).reshape(into.shape))


def block_gradient(parts: ScoredParts, like: Tensor, scale: float = 1.0) -> Tensor:
    """Return scale * d sum / d logits of a block, 0 in the rows that are not in its parts.

    Args:
        parts: the rows that can be evaluated.
        like: the block's logits, (rows, classes), for shape, dtype and device.
        scale: see above.
    """
    if _is_whole(parts, like):
        return parts[0][1].gradient(scale)
    whole = torch.zeros_like(like)
    for rows, each in parts:
        whole[rows.positions] = each.gradient(scale)
    return whole


def _is_whole(parts: ScoredParts, like: Tensor) -> bool:
    return len(parts) == 1 and len(parts[0][0].positions) == len(like)
