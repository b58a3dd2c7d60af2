"""What every media type decodes to, and the limits that are checked before anything is made."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NewType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.errors import Malformed, TooLarge

Body = NewType("Body", NDArray[np.uint8])
"""The bytes of a request, in one buffer that tensors are views of."""

DIMENSIONS: Final = 8  # as many as (N, C, d1..d6); keeps recursion over nested lists shallow

TORCH_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "uint16": torch.uint16,
    "uint32": torch.uint32,
    "uint64": torch.uint64,
    "bool": torch.bool,
}


def all_there(_: int) -> None:
    """Wait for nothing: the bytes, or rows, up to any number are in memory."""


@dataclass(frozen=True, slots=True)
class Payload:
    """One decoded request: the tensors, and the rest of the document as plain values.

    ``await_rows`` returns once the logits' rows below a number are in memory; all else is.
    ``labels`` are ``None`` where they come later. ``coming`` says what rows come with of which none
    is known yet; it is ``None`` where they are there.
    """

    document: Mapping[str, object]
    logits: Tensor
    labels: Tensor | None
    sample_weights: Tensor | None = None
    class_weights: Tensor | None = None
    await_rows: Callable[[int], None] = all_there
    coming: "Coming | None" = None

    @classmethod
    def of(
        cls,
        document: Mapping[str, object],
        tensors: Mapping[str, Tensor],
        *,
        await_rows: Callable[[int], None],
    ) -> "Payload":
        """Return a request whose tensors have their names."""
        return cls(
            document,
            tensors["logits"],
            tensors.get("labels"),
            tensors.get("sample_weights"),
            tensors.get("class_weights"),
            await_rows,
        )


@dataclass(frozen=True, slots=True)
class Coming:
    """Rows of which none is known. ``named`` says whether they will have their names with them."""

    named: bool


@dataclass(frozen=True, slots=True)
class LabelsPayload:
    """One decoded request of labels that come without their logits."""

    document: Mapping[str, object]
    labels: Tensor


def awaits_labels(document: Mapping[str, object]) -> bool:
    """Tell whether a request says that labels come later."""
    track = document.get("track")
    return isinstance(track, Mapping) and track.get("pending") is True


def required(document: Mapping[str, object]) -> tuple[str, ...]:
    """Return the tensors that a request must have: labels too, unless they come later."""
    return ("logits",) if awaits_labels(document) else ("logits", "labels")


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest batch that is taken. Checked on declared shapes, before allocating."""

    rows: int
    classes: int
    elements: int
    document_entries: int

    def check(self, name: str, shape: Sequence[int], class_axis: object) -> None:
        """Check the declared shape of one tensor.

        Raises:
            TooLarge: naming the limit.
            Malformed: more dimensions than any batch has.
        """
        if len(shape) > DIMENSIONS:
            raise Malformed(f"{name} has {len(shape)} dimensions, more than {DIMENSIONS}")
        elements = math.prod(shape)  # Python integers: no overflow, whatever was declared
        rows, classes = extent(shape, class_axis) if name == "logits" else (0, 0)
        for what, number, limit in (
            ("elements", elements, self.elements),
            ("rows", rows, self.rows),
            ("classes", classes, self.classes),
        ):
            if number > limit:
                raise TooLarge(f"{name} has {number} {what}, the limit is {limit}")


def extent(shape: Sequence[int], class_axis: object) -> tuple[int, int]:
    """Return (rows, classes) of logits; an axis that is none counts as the second one."""
    if len(shape) < 2:  # noqa: PLR2004  (a vector: one class)
        return math.prod(shape), 1
    valid = isinstance(class_axis, int) and -len(shape) <= class_axis < len(shape)
    axis = class_axis if valid and isinstance(class_axis, int) else 1
    rows = math.prod(size for index, size in enumerate(shape) if index != axis % len(shape))
    return rows, shape[axis]


def is_aligned(body: Body, offset: int, dtype: torch.dtype) -> bool:
    """Tell whether a tensor of this type can lie where it is."""
    return (body.ctypes.data + offset) % dtype.itemsize == 0


def view(body: Body, offset: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a tensor over part of ``body`` without copying it, unless it lies misaligned.

    Raises:
        Malformed: a bool that is neither 0 nor 1.
    """
    count = math.prod(shape)
    if count == 0:
        return torch.empty(tuple(shape), dtype=dtype)
    if not is_aligned(body, offset, dtype):
        body, offset = Body(body[offset : offset + count * dtype.itemsize].copy()), 0
    if dtype == torch.bool and body[offset : offset + count].max() > 1:
        raise Malformed("a bool is neither 0 nor 1")
    return torch.frombuffer(body, dtype=dtype, count=count, offset=offset).view(tuple(shape))
