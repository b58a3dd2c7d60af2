"""Numbers as they travel: a type, a shape, and contiguous little-endian memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xent.errors import InvalidBatch

Array = NDArray[Any]

DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # NumPy has no bfloat16: its bits
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "BOOL": np.dtype("?"),
}
BFLOAT16: Final = "BF16"
NAMES: Final[Mapping[np.dtype[Any], str]] = {
    dtype: name for name, dtype in DTYPES.items() if name != BFLOAT16
}
_HALF: Final = 16  # bits of a float32 that a bfloat16 leaves out


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor of a request or an answer.

    Attributes:
        dtype: its name in safetensors.
        values: C-contiguous and little-endian; of bfloat16 the bits, as unsigned integers.
    """

    dtype: str
    values: Array

    @classmethod
    def of(cls, array: Array, name: str) -> "Tensor":
        """Return an array as it travels: in place where it can be, copied where it cannot.

        Args:
            array: of any byte order and strides; bfloat16 as ml_dtypes has it.
            name: what an error calls it.

        Raises:
            InvalidBatch: neither numbers nor booleans, or of a type that does not travel.
        """
        if array.dtype.name == "bfloat16":
            return cls(BFLOAT16, np.ascontiguousarray(array).view(DTYPES[BFLOAT16]))
        dtype = array.dtype.newbyteorder("<")
        if dtype not in NAMES:
            raise InvalidBatch(
                f"{name} are of type {array.dtype}: convert them to one of "
                "float16, bfloat16, float32, float64, an integer or bool"
            )
        # order="C" keeps an array without axes what it is; ascontiguousarray gives it one.
        return cls(NAMES[dtype], np.asarray(array, dtype=dtype, order="C"))

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.values.shape

    @property
    def data(self) -> memoryview:
        """Its bytes, not copied."""
        return self.values.reshape(-1).view(np.uint8).data

    def numpy(self) -> Array:
        """Return an array; bfloat16 as float32, which holds every one of its numbers."""
        if self.dtype != BFLOAT16:
            return self.values
        return (self.values.astype(np.uint32) << _HALF).view(np.float32)


def finite_lists(array: Array) -> Any:  # noqa: ANN401  (lists in lists)
    """Return nested lists, None for what is not finite: JSON has no NaN."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array.tolist()
    return np.where(np.isfinite(array), array.astype(object), np.array(None)).tolist()
