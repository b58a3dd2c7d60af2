"""Logits of any shape as rows x classes, cut into blocks, and back.

A row is one decision: a sample, a pixel, an element of a vector of yes/no questions. Rows are
counted in the order of the logits' axes without the class axis. Nothing is copied here: a block is
an index into a view, so that strided logits are only ever copied block by block.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from xentcore.errors import ShapeMismatch


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows ``start``:``stop``.

    Attributes:
        lead: entries of the leading axes of a rows view; all rows have them in common.
        span: the entries of the next axis.
        start: number of the first row.
        stop: number behind the last row.
    """

    lead: tuple[int, ...]
    span: slice
    start: int
    stop: int

    @property
    def index(self) -> tuple[int | slice, ...]:
        """What selects the rows from a view with the class axis last."""
        return (*self.lead, self.span)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the classes of a tensor of logits are.

    Attributes:
        shape: the logits' shape: (N,), (N, C) or (N, C, d1..dk) with the class axis anywhere.
        class_axis: the non-negative axis of the classes; ``None`` for (N,), which has one class.
        first: how many entries of the first axis came in chunks before; positions count them too.
    """

    shape: tuple[int, ...]
    class_axis: int | None
    first: int = 0

    @classmethod
    def of(cls, shape: Sequence[int], class_axis: int) -> "Layout":
        """Return the layout of logits of this shape.

        Raises:
            ShapeMismatch: a scalar, an axis that is not there, or rows without classes.
        """
        shape = tuple(shape)
        if not shape:
            raise ShapeMismatch(
                "logits are a single number: give at least one axis of rows", pointer="/logits"
            )
        if len(shape) == 1:
            # An empty list has no second axis to tell its classes by: no rows of no classes.
            return cls((0, 0), 1) if shape == (0,) else cls(shape, None)
        if not -len(shape) <= class_axis < len(shape):
            raise ShapeMismatch(
                f"class_axis is {class_axis}, and logits {_words(shape)} have axes "
                f"{-len(shape)} to {len(shape) - 1}",
                pointer="/class_axis",
            )
        layout = cls(shape, class_axis % len(shape))
        if layout.rows and not layout.classes:
            raise ShapeMismatch(
                f"logits {_words(shape)} have no classes along axis {layout.class_axis}",
                pointer="/logits",
            )
        return layout

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape without the class axis."""
        if self.class_axis is None:
            return self.shape
        return self.shape[: self.class_axis] + self.shape[self.class_axis + 1 :]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return math.prod(self.row_shape)

    @property
    def classes(self) -> int:
        """How many classes a row has."""
        return 1 if self.class_axis is None else self.shape[self.class_axis]

    def classes_last(self, tensor: Tensor) -> Tensor:
        """Return a view of a tensor of the logits' shape with the class axis moved last."""
        if tensor.shape == (0,):
            return tensor.reshape(0, 0)
        return tensor[..., None] if self.class_axis is None else tensor.movedim(self.class_axis, -1)

    def blocks(self, rows: int) -> Iterator[Block]:
        """Yield all rows in order, at most ``rows`` at a time."""
        first, *inner = self.row_shape
        return _blocks(slice(0, first), tuple(inner), (), 0, max(rows, 1))

    def halves(self, block: Block) -> list[Block]:
        """Return a block in smaller ones of at most half its rows; none for a single row."""
        rows = block.stop - block.start
        if rows < 2:  # noqa: PLR2004  (one row is the smallest block there is)
            return []
        inner = self.row_shape[len(block.lead) + 1 :]
        return list(_blocks(block.span, inner, block.lead, block.start, rows // 2))

    def position(self, row: int) -> tuple[int, ...]:
        """Return the index of a row in the batch's shape without the class axis."""
        position = []
        for extent in reversed(self.row_shape):
            row, offset = divmod(row, extent)
            position.append(offset)
        position[-1] += self.first
        return tuple(reversed(position))

    def element_position(self, row: int, cls: int) -> tuple[int, ...]:
        """Return the index of an element in the logits' shape."""
        position = self.position(row)
        if self.class_axis is None:
            return position
        return (*position[: self.class_axis], cls, *position[self.class_axis :])

    def mismatch(self, labels: Sequence[int]) -> ShapeMismatch:
        """Return the error for labels of a shape that does not fit, naming the axis that would."""
        labels = tuple(labels)
        message = f"labels have shape {_words(labels)}, logits {_words(self.shape)}: "
        fits = [
            axis
            for axis in range(len(self.shape))
            if len(self.shape) > 1 and self.shape[:axis] + self.shape[axis + 1 :] == labels
        ]
        if fits:
            last = len(self.shape) - 1
            axes = " or ".join(str(-1 if axis == last else axis) for axis in fits)
            way_out = f"with class_axis={axes} they fit"
        else:
            way_out = (
                f"give indices of shape {_words(self.row_shape)}, or labels of the logits' shape"
            )
        return ShapeMismatch(message + way_out, pointer="/labels")


def _blocks(
    span: slice, inner: tuple[int, ...], lead: tuple[int, ...], start: int, rows: int
) -> Iterator[Block]:
    """Yield blocks of at most ``rows`` rows of the entries ``span``, each an array of ``inner``."""
    each = math.prod(inner)
    if not each:
        return
    if each > rows:
        for entry in range(span.start, span.stop):
            below = start + (entry - span.start) * each
            yield from _blocks(slice(0, inner[0]), inner[1:], (*lead, entry), below, rows)
        return
    step = rows // each
    for entry in range(span.start, span.stop, step):
        stop = min(entry + step, span.stop)
        first = start + (entry - span.start) * each
        yield Block(lead, slice(entry, stop), first, first + (stop - entry) * each)


def _words(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
