"""What is compiled: every pass, for every dtype of the arithmetic, with the shapes it is given."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from xentcore import sigmoid, softmax

DTYPES: Final = (torch.float32, torch.float64)
# The passes that are compiled for short rows too.
SHORT: Final = (
    "measure",
    "measure_keeping",
    "measure_spreading",
    "survey",
    "column_sums",
    "write_scaled",
    "spread",
)
# Those of them that answer with one number per class, not per row.
PER_CLASS: Final = ("column_sums",)
# What the compiler tunes loops for; any other number of rows and classes is as right.
_ROWS: Final = 64
_CLASSES: Final = 1000


@dataclass(frozen=True, slots=True)
class Kernel:
    """A pass in one dtype.

    Attributes:
        name: of the pass, and of what its inputs look like where that may differ.
        dtype: of the matrix.
        function: the pass.
        axes: per input, which of its axes are rows and which are classes.
        integers: the inputs that hold classes, int64.
        doubles: the inputs that are float64 whatever the dtype.
        short: for rows so short that rows, not classes, are worked on side by side: a class's
            logits follow each other in memory.
    """

    name: str
    dtype: torch.dtype
    function: Callable[..., Any]
    axes: tuple[str, ...]
    integers: tuple[int, ...] = ()
    doubles: tuple[int, ...] = ()
    short: bool = False

    @property
    def stem(self) -> str:
        """The name of its file."""
        layout = "-short" if self.short else ""
        return f"{self.name}{layout}-{str(self.dtype).removeprefix('torch.')}"

    def inputs(self) -> tuple[Tensor, ...]:
        """Return tensors of the shapes and dtypes that it takes."""
        extents = {"r": _ROWS, "c": _CLASSES}
        if self.short:
            extents = {"r": _CLASSES, "c": _ROWS // 4}
        found = []
        for place, axes in enumerate(self.axes):
            dtype = torch.float64 if place in self.doubles else self.dtype
            dtype = torch.int64 if place in self.integers else dtype
            tensor = torch.zeros([extents[axis] for axis in axes], dtype=dtype)
            by_class = self.short and axes == "rc"
            found.append(tensor.t().contiguous().t() if by_class else tensor)
        return tuple(found)


def kernels() -> Iterator[Kernel]:
    """Yield everything that is compiled, what most requests need first."""
    for dtype in DTYPES:
        for name, function, axes, integers, doubles in _PASSES:
            if len(doubles) == len(axes) and dtype != torch.float64:
                continue  # nothing that it takes is of this dtype
            yield Kernel(name, dtype, function, axes, integers, doubles)
            if name in SHORT:
                yield Kernel(name, dtype, function, axes, integers, doubles, short=True)


_Entry = tuple[str, Callable[..., Any], tuple[str, ...], tuple[int, ...], tuple[int, ...]]
_ROWS_OF_LOGITS: Final = ("rc", "r", "r", "c")
_PASSES: Final[tuple[_Entry, ...]] = (
    ("measure", softmax.measure, _ROWS_OF_LOGITS, (2,), ()),
    ("derive", softmax.derive, ("r", "r"), (), (0, 1)),
    ("measure_keeping", softmax.measure_keeping, (*_ROWS_OF_LOGITS, "rc"), (2,), ()),
    ("column_sums", softmax.column_sums, ("rc", "r"), (), (1,)),
    ("measure_spreading", softmax.measure_spreading, (*_ROWS_OF_LOGITS, "rc"), (2,), ()),
    ("survey", softmax.survey, (*_ROWS_OF_LOGITS, "rc"), (2,), ()),
    ("write_scaled", softmax.write_scaled, ("rc", "r", "c", "r", "r", "rc"), (1,), ()),
    (
        "write_tilted",
        softmax.write_tilted,
        ("rc", "rc", "r", "r", "c", "r", "r", "r", "rc"),
        (3,),
        (),
    ),
    ("weighted_sum-classes", softmax.weighted_sum, ("rc", "r", "c"), (), ()),
    ("weighted_sum-rows", softmax.weighted_sum, ("rc", "r", "rc"), (), ()),
    ("first_peak", softmax.first_peak, ("rc", "r", "c"), (), ()),
    ("spread", softmax.spread, _ROWS_OF_LOGITS, (2,), ()),
    ("ranking", softmax.ranking, _ROWS_OF_LOGITS, (2,), ()),
    ("measure_elements", sigmoid.measure_elements, ("rc",), (), ()),
    ("element_sums", sigmoid.element_sums, ("rc", "rc", "rc", "rc", "rc", "r", "r"), (), (5, 6)),
)
