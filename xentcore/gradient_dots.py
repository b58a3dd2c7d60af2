"""Dot products of gradients, block by block; no gradient outlives its block.

With hard labels and nothing else to it, a row of a softmax gradient is ``b p`` with ``a`` in place
of the label's entry. Two such rows have the product

    a_i a_j + b_i b_j sum(p_c^2: c not y)

and need no gradient at all; a product with any other gradient ``g`` is ``a g_y + b sum(p_c g_c: c
not y)``, so that ``g`` is read once for all of them. Everything else takes gradients as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor

from xentcore.chunk import Rows
from xentcore.gradients import ScoredParts, block_gradient
from xentcore.row_statistics import RowStatistics, times
from xentcore.scoring import Scored, ScoredRows

_FLOAT64_ELEMENTS: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class Plain:
    """Gradients ``along * exp u`` with ``at_label`` in place of the label's entry.

    Attributes:
        statistics: the rows, which all of these gradients have in common.
        positions: where in the block they stand, (rows,), int64.
        at_label: sample weights included, (gradients, rows), float64.
        along: the same.
    """

    statistics: RowStatistics
    positions: Tensor
    at_label: Tensor
    along: Tensor

    @classmethod
    def of(cls, rows: Rows, scored: Iterable[ScoredRows]) -> "Plain":
        """Return the gradients of several variants on the same rows."""
        statistics = cast("RowStatistics", rows.body)
        at_label, along = [], []
        for each in scored:
            terms, factors = each.terms, each.fate.factors
            at_label.append(times(factors, cast("Tensor", terms.at_label)))
            along.append(times(factors, terms.scale / statistics.partition))
        return cls(statistics, rows.positions, torch.stack(at_label), torch.stack(along))

    def dots(self) -> Tensor:
        """Return the product of each with each, (gradients, gradients)."""
        shared = self.along * self.statistics.others_squared
        return self.at_label @ self.at_label.t() + shared @ self.along.t()

    def dots_with(self, gradient: Tensor) -> Tensor:
        """Return the product of each with one of the whole block, (gradients,)."""
        statistics = self.statistics
        rows = gradient if len(gradient) == len(self.positions) else gradient[self.positions]
        at_label = rows.gather(1, statistics.pivot[:, None])[:, 0].double()
        others = (statistics.exp_others * rows).sum(dim=1).double()
        return self.at_label @ at_label + self.along @ others


def gradient_dots(scored: Sequence[ScoredParts], like: Tensor) -> Tensor:
    """Return sum over rows and classes of g_i * g_j, (specs, specs), float64, on the CPU.

    ``g`` are the gradients of the sums of the losses, all weights included. What a row adds does
    not depend on the rows beside it.

    Args:
        scored: the rows of a block, per spec.
        like: the block's logits, (rows, classes), for shape, dtype and device.
    """
    dots = torch.zeros(len(scored), len(scored), dtype=torch.float64, device=like.device)
    rows, plain = _plain_rows(scored)
    rest = {
        place: [part for part in parts if part[1] is not plain.get(place)]
        for place, parts in enumerate(scored)
    }
    dense = {place: block_gradient(parts, like) for place, parts in rest.items() if parts}
    if rows is not None:
        index = torch.tensor(list(plain), device=like.device)
        some = Plain.of(rows, plain.values())
        dots[index[:, None], index] += some.dots()
        for place, gradient in dense.items():
            found = some.dots_with(gradient)
            dots[index, place] += found
            dots[place, index] += found
    _add_dense(dots, dense)
    return dots.cpu()


def _plain_rows(scored: Sequence[ScoredParts]) -> tuple[Rows | None, dict[int, ScoredRows]]:
    """Return rows, and the specs by place whose gradients on them are plain."""
    common: Rows | None = None
    plain: dict[int, ScoredRows] = {}
    for place, parts in enumerate(scored):
        for rows, each in parts:
            # Of other logits than the first plain one's, p is another: they have no such product.
            if _is_plain(each) and (common is None or rows.body is common.body):
                common = rows
                plain[place] = cast("ScoredRows", each)
    return common, plain


def _is_plain(each: Scored) -> bool:
    return isinstance(each, ScoredRows) and each.terms.is_plain


def _add_dense(dots: Tensor, gradients: Mapping[int, Tensor]) -> None:
    """Add the products of gradients with each other."""
    if not gradients:
        return
    index = torch.tensor(list(gradients), device=dots.device)
    flat = [gradient.reshape(-1) for gradient in gradients.values()]
    # A few elements at a time: their float64 copies take little memory and stay in the cache.
    step = _FLOAT64_ELEMENTS
    for start in range(0, len(flat[0]), step):
        some = torch.stack([each[start : start + step] for each in flat]).double()
        dots[index[:, None], index] += some @ some.t()
