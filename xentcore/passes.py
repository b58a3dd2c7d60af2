"""The passes over matrices, and which implementation of them an evaluation uses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from xentcore import sigmoid, softmax


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """The passes of :mod:`xentcore.softmax` and :mod:`xentcore.sigmoid`, one attribute each.

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
    measure_elements: Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]
    element_sums: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]
    ]


EAGER: Final = Passes(
    name="eager",
    measure=softmax.measure,
    first_peak=softmax.first_peak,
    spread=softmax.spread,
    ranking=softmax.ranking,
    weighted_sum=softmax.weighted_sum,
    column_sums=softmax.column_sums,
    scaled=softmax.scaled,
    measure_elements=sigmoid.measure_elements,
    element_sums=sigmoid.element_sums,
)
