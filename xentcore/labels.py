"""Labels of every kind, checked and brought to one form: an index per row, or a target each."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from xentcore.errors import (
    InvalidLabel,
    InvalidSetting,
    ShapeMismatch,
    UnsupportedDtype,
    pointer_to,
)
from xentcore.layout import Block, Layout
from xentcore.options import LabelKind, Options, Reading

# Rows of a distribution must sum to 1 this closely; a dtype that cannot do so is given its epsilon.
_SUM_TOLERANCE: Final = 1e-4
_WHOLE_IN_FLOAT64: Final = 2.0**53
_DECIDED_AT_ONCE: Final = 1 << 20
_READABLE: Final = {
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
}
_UNSIGNED: Final = {torch.uint16, torch.uint32, torch.uint64}


@dataclass(frozen=True, slots=True)
class LabelRows:
    """The labels of a block of rows.

    Attributes:
        values: the class of each row, int64, (rows,); or t, (rows, classes), in the compute dtype.
        ignored: rows to leave out, (rows,), bool; ``None`` for none.
    """

    values: Tensor
    ignored: Tensor | None

    @property
    def is_index(self) -> bool:
        """Whether a row's label is one class, not a target for every class."""
        return self.values.dim() == 1

    def select(self, positions: Tensor) -> "LabelRows":
        """Return the labels of some rows, none of them ignored."""
        return LabelRows(self.values[positions], None)


def check_shapes(labels: Tensor, layout: Layout, kind: LabelKind | Literal["auto"]) -> None:
    """Check that labels of this kind fit logits of this layout.

    Raises:
        ShapeMismatch: they do not; names the class axis with which they would.
        InvalidSetting: ``binary`` labels and several classes.
    """
    shape = tuple(labels.shape)
    as_rows = shape == layout.row_shape or (not layout.rows and shape == (0,))
    as_logits = shape == layout.shape
    if layout.classes == 1 and kind in ("auto", "binary"):
        # (N,) and (N, 1) name the same rows, whichever of the two has which shape.
        as_rows = as_rows or shape in ((layout.rows,), (layout.rows, 1))
        as_logits = as_logits or as_rows
    if kind == "binary" and layout.classes > 1:
        raise InvalidSetting(
            f"label_kind 'binary' is for one class, and there are {layout.classes}: "
            "use 'multi_hot'",
            pointer="/label_kind",
        )
    fits = {"auto": as_rows or as_logits, "integer": as_rows}.get(kind, as_logits)
    if not fits and (as_rows or as_logits):
        raise ShapeMismatch(
            f"labels have shape {shape}, which {'integer' if as_rows else 'one_hot'} labels have, "
            f"and label_kind is '{kind}'",
            pointer="/labels",
        )
    if not fits:
        raise layout.mismatch(shape)


def readable(labels: Tensor) -> Tensor:
    """Return labels in a dtype that can be compared; unsigned integers are widened.

    Raises:
        UnsupportedDtype: complex numbers, or anything else that holds no labels.
        InvalidLabel: an unsigned number that no label kind can hold.
    """
    if labels.dtype in _READABLE:
        return labels
    if labels.dtype not in _UNSIGNED:
        raise UnsupportedDtype(
            f"labels are {str(labels.dtype).removeprefix('torch.')}: give integers, booleans, "
            "float16, bfloat16, float32 or float64",
            pointer="/labels",
        )
    widened = labels.long()
    wrapped = (widened < 0).nonzero()
    if len(wrapped):
        # As uint64, 2^64 - 100 is not -100, although both have the same bits.
        position = tuple(wrapped[0].tolist())
        value = widened[position].item() + 2**64
        raise InvalidLabel(
            f"label {value} at position {position} is above 2^63 - 1: no class has such a number",
            position=position,
            pointer=pointer_to("labels", position),
        )
    return widened


def decide_kind(labels: Tensor, layout: Layout, ignore_index: int | None) -> LabelKind:
    """Return the kind that labels of a fitting shape have, by their shape and values.

    Rows that are ignored decide nothing.
    """
    if layout.classes != 1 and tuple(labels.shape) != layout.shape:
        return "integer"
    kind: LabelKind = "binary" if layout.classes == 1 else "one_hot"
    view = layout.classes_last(labels.reshape(layout.shape))
    for block in layout.blocks(max(1, _DECIDED_AT_ONCE // max(layout.classes, 1))):
        values = view[block.index].reshape(-1, layout.classes)
        ignored = ignored_rows(values, ignore_index)
        if ignored is not None:
            values = values[~ignored]
        if not _binary(values).all():
            return "probabilities"
        if kind == "one_hot" and not ((values != 0).sum(dim=1) == 1).all():
            kind = "multi_hot"
    return kind


def ignored_rows(values: Tensor, ignore_index: int | None) -> Tensor | None:
    """Return the rows that hold ``ignore_index`` throughout, (rows,), or ``None`` for none.

    Args:
        values: (rows,) or (rows, classes).
        ignore_index: the value; ``None`` marks nothing.
    """
    # Compared with what the dtype cannot hold, a value wraps: 156 would be -100 as uint8.
    if ignore_index is None or not _holds(values.dtype, ignore_index):
        return None
    ignored = values == ignore_index
    if ignored.dim() > 1:
        ignored = ignored.all(dim=1)
    return ignored if ignored.any() else None


def _holds(dtype: torch.dtype, value: int) -> bool:
    if dtype.is_floating_point:
        return True
    return dtype != torch.bool and torch.iinfo(dtype).min <= value <= torch.iinfo(dtype).max


def _binary(values: Tensor) -> Tensor:
    return (values == 0) | (values == 1)


# The smallest kind that holds the labels of both: every one-hot label is a distribution too.
_JOINED: Final[dict[frozenset[str], LabelKind]] = {
    frozenset({"one_hot", "probabilities"}): "probabilities",
    frozenset({"one_hot", "multi_hot"}): "multi_hot",
    frozenset({"multi_hot", "probabilities"}): "probabilities",
    frozenset({"binary", "probabilities"}): "probabilities",
}


def join_kinds(first: LabelKind, second: LabelKind) -> LabelKind | None:
    """Return the kind that labels of both kinds have, or ``None`` when there is none."""
    return first if first == second else _JOINED.get(frozenset({first, second}))


class LabelReader:
    """Reads labels of one kind block by block.

    Args:
        kind: how they are to be read.
        layout: of the logits.
        options: for ``ignore_index``.
        dtype: of targets.
        readings: what labels are about, of all who will read them. They must do for each: be
            distributions where one reads classes, and cumulative where one reads ranks.

    Raises:
        InvalidSetting: ``ignore_index`` is a class, and labels are shaped like the logits.
    """

    def __init__(
        self,
        kind: LabelKind,
        layout: Layout,
        options: Options,
        *,
        dtype: torch.dtype,
        readings: Collection[Reading],
    ) -> None:
        self._kind = kind
        self._layout = layout
        self._ignore_index = options.ignore_index
        self._dtype = dtype
        self._distributions = "classes" in readings
        self._cumulative = "ranks" in readings
        # Ranks are one more than the thresholds between them, unless others read classes there.
        self._named = "ranks" if set(readings) == {"ranks"} else "classes"
        self._largest = layout.classes - (0 if self._named == "ranks" else 1)
        if kind != "integer" and options.ignore_index is not None and options.ignore_index >= 0:
            raise InvalidSetting(
                f"ignore_index {options.ignore_index} is a class, and labels are {kind}: "
                "leave rows out with sample weights of 0, or with a negative ignore_index",
                pointer="/ignore_index",
            )

    def view(self, labels: Tensor) -> Tensor:
        """Return labels so that the index of a block selects its rows."""
        if self._kind == "integer":
            return labels.reshape(self._layout.row_shape)
        if labels.shape != self._layout.shape:
            labels = labels.reshape(self._layout.shape)
        return self._layout.classes_last(labels)

    def read(self, values: Tensor, block: Block) -> LabelRows:
        """Check and convert the labels of a block, as :meth:`view` selected them.

        Raises:
            InvalidLabel: naming the first offending position and value.
        """
        if self._kind == "integer":
            return self._read_integer(values.reshape(-1), block)
        return self._read_targets(values.reshape(-1, self._layout.classes), block)

    def _read_integer(self, values: Tensor, block: Block) -> LabelRows:
        if values.dtype.is_floating_point:
            whole = (values == values.round()) & (values.abs() < _WHOLE_IN_FLOAT64)
            self._refuse(~whole, values, block, "is not a whole number: a label names one class")
        index = values.long()
        if not self._may_be_special(values):
            return LabelRows(index, None)
        ignored = ignored_rows(values, self._ignore_index)
        wrong = (index < 0) | (index > self._largest)
        self._refuse(
            wrong if ignored is None else wrong & ~ignored,
            values,
            block,
            f"is outside 0 to {self._largest}: there are {self._largest + 1} {self._named}, "
            f"and ignore_index is {self._ignore_index}",
        )
        if ignored is not None:
            # A legal class in rows that nobody reads, so that they can be carried along.
            index = index.masked_fill(ignored, 0)
        return LabelRows(index, ignored)

    def _may_be_special(self, values: Tensor) -> bool:
        """Tell whether an index may be ignored, or wrong: one look at the extremes of all."""
        if not len(values) or values.dtype == torch.bool:
            return True
        low, high = (extreme.item() for extreme in values.aminmax())
        ignored = self._ignore_index
        if ignored is not None and low <= ignored <= high:
            return True
        return not (low >= 0 and high <= self._largest)

    def _read_targets(self, values: Tensor, block: Block) -> LabelRows:
        ignored = ignored_rows(values, self._ignore_index)
        if self._kind == "probabilities":
            # Negated, so that NaN is refused too.
            wrong = ~((values >= 0) & (values <= 1))
            words = "is no probability: labels of this shape lie in [0, 1]"
        else:
            wrong = ~_binary(values)
            words = f"is neither 0 nor 1: labels are {self._kind}"
        if ignored is not None:
            wrong &= ~ignored[:, None]
        self._refuse(wrong, values, block, words)
        targets = values.to(self._dtype)
        if ignored is not None:
            targets = targets.masked_fill(ignored[:, None], 0)
        if self._kind == "one_hot":
            wrong = targets.sum(dim=1) != 1
            self._refuse_rows(wrong, ignored, block, targets, "ones, not one")
            return LabelRows(targets.argmax(dim=1), ignored)
        if self._kind == "probabilities" and self._distributions:
            sums = targets.sum(dim=1, dtype=torch.float64)
            epsilon = torch.finfo(values.dtype).eps if values.dtype.is_floating_point else 0.0
            wrong = (sums - 1).abs() > max(_SUM_TOLERANCE, epsilon)
            words = "in all, not 1: each row is a distribution"
            self._refuse_rows(wrong, ignored, block, targets, words)
        if self._cumulative:
            self._refuse_unordered(targets, block)
        return LabelRows(targets, ignored)

    def _refuse_unordered(self, targets: Tensor, block: Block) -> None:
        rises = (targets[:, 1:] > targets[:, :-1]).nonzero()
        if not len(rises):
            return
        row, cls = rises[0].tolist()
        position = self._layout.element_position(block.start + row, cls + 1)
        raise InvalidLabel(
            f"label 1 at position {position} follows a 0: columns are thresholds between ranks, "
            "and whoever passes one has passed all before it",
            position=position,
            pointer=pointer_to("labels", position),
        )

    def _refuse(self, wrong: Tensor, values: Tensor, block: Block, words: str) -> None:
        if not wrong.any():
            return
        row, *cls = wrong.nonzero()[0].tolist()
        value = values[(row, *cls)].item()
        row += block.start
        position = self._layout.element_position(row, cls[0]) if cls else self._layout.position(row)
        raise InvalidLabel(
            f"label {value!r} at position {position} {words}",
            position=position,
            pointer=pointer_to("labels", position),
        )

    def _refuse_rows(
        self, wrong: Tensor, ignored: Tensor | None, block: Block, targets: Tensor, words: str
    ) -> None:
        if ignored is not None:
            wrong = wrong & ~ignored
        if not wrong.any():
            return
        row = int(wrong.nonzero()[0])
        position = self._layout.position(block.start + row)
        total = targets[row].sum(dtype=torch.float64).item()
        # With the classes first, no one element of the labels holds the row.
        whole = self._layout.class_axis in (None, len(self._layout.shape) - 1)
        raise InvalidLabel(
            f"labels of row {position} hold {total:g} {words}",
            position=position,
            pointer=pointer_to("labels", position if whole else ()),
        )


def count_classes(labels: Tensor, reader: LabelReader, layout: Layout, rows: int) -> list[int]:
    """Return how many rows each class has; a distribution counts as its most probable class.

    Raises:
        InvalidLabel: naming the first offending position and value.
    """
    counts = torch.zeros(layout.classes, dtype=torch.int64)
    view = reader.view(labels)
    for block in layout.blocks(rows):
        read = reader.read(view[block.index], block)
        index = read.values if read.is_index else read.values.argmax(dim=1)
        live = index if read.ignored is None else index[~read.ignored]
        counts += torch.bincount(live, minlength=layout.classes).cpu()
    return counts.tolist()
