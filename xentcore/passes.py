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
        block_elements: how much of a batch an evaluation looks at in one go, on the CPU.
        strip_elements: how much of a block the passes are best given in one call, on the CPU.
        sweep_elements: how much of a batch is best looked at in one go where nothing but the passes
            looks at its matrix, see :mod:`xentcore.sweep`; 0 where that does not pay.
        laid_out: returns logits, (rows, classes), in the order in memory that the passes of the
            softmax family like best; what is copied is there as long as the first argument.
    """

    name: str
    block_elements: int
    strip_elements: int
    sweep_elements: int
    laid_out: Callable[[object, Tensor], Tensor]
    measure: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]
    measure_keeping: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]
    ]
    measure_spreading: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]
    survey: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]
    derive: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]
    first_peak: Callable[[Tensor, Tensor, Tensor], Tensor]
    spread: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    ranking: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    weighted_sum: Callable[[Tensor, Tensor, Tensor], Tensor]
    column_sums: Callable[[Tensor, Tensor], Tensor]
    write_scaled: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], object]
    write_tilted: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], object
    ]
    measure_elements: Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]
    element_sums: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]
    ]


EAGER: Final = Passes(
    name="eager",
    # Measured: two megabytes of float32 are enough to hide what starting a dozen operations costs.
    # Twice as much is hardly faster, and would show in the memory of the process.
    block_elements=1 << 19,
    # Half a megabyte of float32: a sum over columns comes by every row again, and finds it in the
    # core's own cache.
    strip_elements=1 << 17,
    sweep_elements=0,
    laid_out=lambda _, logits: logits.contiguous(),
    measure=softmax.measure,
    measure_keeping=softmax.measure_keeping,
    measure_spreading=softmax.measure_spreading,
    survey=softmax.survey,
    derive=softmax.derive,
    first_peak=softmax.first_peak,
    spread=softmax.spread,
    ranking=softmax.ranking,
    weighted_sum=softmax.weighted_sum,
    column_sums=softmax.column_sums,
    write_scaled=softmax.write_scaled,
    write_tilted=softmax.write_tilted,
    measure_elements=sigmoid.measure_elements,
    element_sums=sigmoid.element_sums,
)
