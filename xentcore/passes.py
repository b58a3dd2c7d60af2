"""The passes over matrices, and which implementation of them an evaluation uses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from xentcore import softmax


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """The passes of :mod:`xentcore.softmax`, one attribute each, same arguments, same answers.

    Attributes:
        name: ``eager`` or ``compiled``.
    """

    name: str
    measure: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]
    first_peak: Callable[[Tensor, Tensor, Tensor], Tensor]
    spread: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    ranking: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    weighted_sum: Callable[[Tensor, Tensor, Tensor], Tensor]
    column_sums: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
    scaled: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


EAGER: Final = Passes(
    name="eager",
    measure=softmax.measure,
    first_peak=softmax.first_peak,
    spread=softmax.spread,
    ranking=softmax.ranking,
    weighted_sum=softmax.weighted_sum,
    column_sums=softmax.column_sums,
    scaled=softmax.scaled,
)
