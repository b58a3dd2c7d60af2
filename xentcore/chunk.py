"""A chunk of a batch: logits, labels and weights that fit each other, read block by block."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from xentcore.constants import Constants
from xentcore.device import to_device
from xentcore.elements import Elements, elements
from xentcore.errors import InvalidWeight, NonFinite, ShapeMismatch, UnsupportedDtype, pointer_to
from xentcore.inputs import check_probabilities, to_logits
from xentcore.labels import LabelReader, LabelRows, check_shapes, ignored_rows
from xentcore.layout import Block, Layout
from xentcore.options import Family, LabelKind, Options, Reading
from xentcore.row_statistics import RowStatistics, Scope, Swept, row_statistics
from xentcore.transformation import Transformation

_WEIGHTS_POINTER: Final = "/sample_weights"
Measuring = Callable[[Tensor, Tensor, Constants], Swept]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a block that share a pass and a form of labels, measured.

    Attributes:
        body: what the pass measured.
        largest: the largest logit of each row as the pass saw it, (rows,).
        positions: where in the block they stand, (rows,), int64.
        weights: sample weights, (rows,), float64; ``None`` for ones.
    """

    body: RowStatistics | Elements
    largest: Tensor
    positions: Tensor
    weights: Tensor | None


@dataclass(frozen=True, slots=True)
class BlockRows:
    """A block as it was sent, on the device, with its labels read.

    Attributes:
        block: which rows.
        values: (rows, classes) in the compute dtype.
        labels: of the rows.
        weights: sample weights, (rows,), float64; ``None`` for ones.
    """

    block: Block
    values: Tensor
    labels: LabelRows
    weights: Tensor | None

    def column(self, parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return one number per row, NaN where no part has one, (rows,), float64.

        Args:
            parts: positions in the block and the numbers of the rows there.
        """
        if len(parts) == 1 and len(parts[0][0]) == len(self.values):
            return parts[0][1]
        column = torch.full_like(self.values[:, 0], torch.nan, dtype=torch.float64)
        for positions, numbers in parts:
            column[positions] = numbers
        return column

    def select(self, positions: Tensor) -> "BlockRows":
        """Return some of the rows; the block stays the one they came from."""
        return BlockRows(
            block=self.block,
            values=self.values[positions],
            labels=self.labels.select(positions),
            weights=None if self.weights is None else self.weights[positions],
        )


@dataclass(frozen=True, slots=True)
class UsableRows:
    """The rows of a block that a family can evaluate.

    Attributes:
        family: which.
        unusable: rows that hold a NaN (softmax: or +inf) and are not ignored, (rows of the block,),
            bool, or ``None`` for none.
        rows: the others, their values as logits; unusable ones too under "propagate".
        maximum: the largest logit of each, (rows,).
        positions: where in the block they stand, (rows,), int64.
        swept: what was measured of them as they are; ``None`` for nothing.
    """

    family: Family
    unusable: Tensor | None
    rows: BlockRows
    maximum: Tensor
    positions: Tensor
    swept: Swept | None


class Chunk:
    """Logits with labels and weights of fitting shapes; nothing is copied, nothing is written to.

    Args:
        logits: any shape and strides; float16, bfloat16, float32 or float64.
        labels: see :mod:`xentcore.labels`.
        sample_weights: one per row, or one per index of the first axis; ``None`` for ones.
        layout: of the logits.
        kind: of the labels.
        options: how to read them.
        constants: dtype and device of the arithmetic.
        readings: what the labels are about, of all who will read them.

    Raises:
        ShapeMismatch: shapes that do not fit each other.
        InvalidSetting: ``ignore_index`` is a class, and labels are shaped like the logits.
    """

    def __init__(  # noqa: PLR0913  (three tensors and how to read them)
        self,
        logits: Tensor,
        labels: Tensor,
        sample_weights: Tensor | None,
        *,
        layout: Layout,
        kind: LabelKind,
        options: Options,
        constants: Constants,
        readings: Collection[Reading],
    ) -> None:
        check_shapes(labels, layout, kind)
        self.layout = layout
        self.kind = kind
        self.constants = constants
        self.dtype = logits.dtype
        self.shape = tuple(logits.shape)
        # Labels of one class may come as (N,) or (N, 1): per-row answers take their shape.
        one_each = kind in ("integer", "binary")
        self.row_shape = tuple(labels.shape) if one_each else layout.row_shape
        self._options = options
        self._logits = layout.classes_last(logits)
        self._reader = LabelReader(kind, layout, options, dtype=constants.dtype, readings=readings)
        self._labels = self._reader.view(labels)
        self._weights = None if sample_weights is None else _weights_view(sample_weights, layout)

    @property
    def is_weighted(self) -> bool:
        """Whether rows have sample weights."""
        return self._weights is not None

    def count_live(self) -> int:
        """Return how many rows are not ignored, as far as their index tells."""
        if self.kind != "integer":
            return self.layout.rows
        ignored = ignored_rows(self._labels.reshape(-1), self._options.ignore_index)
        return self.layout.rows - (0 if ignored is None else int(ignored.sum()))

    def read(self, block: Block) -> BlockRows:
        """Bring a block to the device and check its labels and weights.

        Raises:
            InvalidLabel, InvalidWeight: naming the first offending position and value.
        """
        device = self.constants.device
        values = self._logits[block.index].reshape(-1, self.layout.classes)
        labels = to_device(self._labels[block.index].contiguous(), device)
        return BlockRows(
            block=block,
            # Contiguous: over strided rows a sum adds in another order, and rounds otherwise.
            values=to_device(values, device).to(self.constants.dtype).contiguous(),
            labels=self._reader.read(labels, block),
            weights=self._read_weights(block),
        )

    def _read_weights(self, block: Block) -> Tensor | None:
        if self._weights is None:
            return None
        weights = self._weights[block.index].reshape(-1).double()
        wrong = ~((weights >= 0) & weights.isfinite())
        if wrong.any():
            row = int(wrong.nonzero()[0])
            position = self.layout.position(block.start + row)
            raise InvalidWeight(
                f"sample weight {weights[row].item():g} at position {position} "
                "is negative or not finite",
                pointer=pointer_to("sample_weights", position),
            )
        return weights.to(self.constants.device)

    @property
    def is_in_place(self) -> bool:
        """Whether blocks of logits are views: no conversion, no order to be changed, no copy."""
        options, constants = self._options, self.constants
        return (
            constants.device.type == self._logits.device.type == "cpu"
            and self.dtype == constants.dtype
            and options.input == "logits"
            and self._logits.is_contiguous()
        )

    def usable(self, rows: BlockRows, family: Family, measuring: Measuring | None) -> UsableRows:
        """Return the rows of a block that a family can evaluate, as logits.

        Args:
            rows: of the block.
            family: which.
            measuring: measures rows that have an index before anything else is asked of them;
                ``None`` where nobody will ask.

        Raises:
            InvalidProbability: the numbers are no probabilities although stated to be.
            NonFinite: under ``nonfinite="reject"``, naming row and class.
        """
        ignored = rows.labels.ignored
        check_probabilities(rows.values, rows.block, self.layout, self._options, ignored=ignored)
        rows = replace(rows, values=to_logits(rows.values, family, self._options))
        swept = None
        if measuring is not None:
            swept = measuring(rows.values, rows.labels.values, self.constants)
        maximum = rows.values.amax(dim=1) if swept is None else swept.maximum
        unusable = self._unusable(rows, maximum, family)
        dropped = ignored
        if unusable is not None and self._options.nonfinite == "exclude":
            dropped = unusable if ignored is None else unusable | ignored
        positions = torch.arange(len(maximum), device=maximum.device)
        if dropped is not None:
            positions = positions[~dropped]
            rows, maximum = rows.select(positions), maximum[positions]
            swept = None
        return UsableRows(family, unusable, rows, maximum, positions, swept)

    def measure(
        self,
        usable: UsableRows,
        reading: Reading,
        transformation: Transformation | None,
        *,
        scope: Scope,
    ) -> list[Rows]:
        """Run the pass of the rows' family over them.

        Args:
            usable: the rows.
            reading: what their labels are about.
            transformation: what is done to their logits first (softmax family); ``None`` nothing.
            scope: what will be asked about the rows.

        Returns:
            the rows in at most two parts: those with a label, those with a distribution.
        """
        if not len(usable.positions):
            return []
        if usable.family == "sigmoid":
            block = elements(usable.rows.values, _targets(usable.rows, reading), self.constants)
            return [Rows(block, usable.maximum, usable.positions, usable.rows.weights)]
        return list(self._measured(usable, transformation, scope=scope))

    def _unusable(self, rows: BlockRows, maximum: Tensor, family: Family) -> Tensor | None:
        # The largest of all is NaN where one of them is.
        largest = maximum.max().item()
        if largest < math.inf or (family == "sigmoid" and largest == math.inf):
            return None
        unusable = maximum.isnan() if family == "sigmoid" else ~(maximum < torch.inf)
        if rows.labels.ignored is not None:
            unusable &= ~rows.labels.ignored
        if not unusable.any():
            return None
        if self._options.nonfinite == "reject":
            row = int(unusable.nonzero()[0])
            wrong = rows.values[row].isnan() | rows.values[row].isposinf()
            cls = int(wrong.nonzero()[0])
            position = self.layout.element_position(rows.block.start + row, cls)
            raise NonFinite(
                f"the logit at position {position} is NaN or +inf: leave the row out, "
                "or ask for nonfinite 'exclude'",
                pointer=pointer_to("logits", position),
            )
        return unusable

    def _measured(
        self, usable: UsableRows, transformation: Transformation | None, *, scope: Scope
    ) -> Iterator[Rows]:
        for chosen, where in _by_label_form(usable.rows):
            values, maximum = chosen.values, usable.maximum[where]
            largest = maximum
            if transformation is not None:
                transformed = transformation.apply(values, maximum, self.constants)
                values, largest = transformed.shifted, transformed.largest
                maximum = values.amax(dim=1)
            swept = usable.swept if transformation is None else None
            labels = chosen.labels.values
            body = row_statistics(values, maximum, labels, self.constants, scope=scope, swept=swept)
            yield Rows(body, largest, usable.positions[where], chosen.weights)


def _targets(rows: BlockRows, reading: Reading) -> Tensor:
    """Return targets, made of the index where labels are one.

    As a class, t is 1 in its column and 0 in all others. As a rank, t is 1 in as many columns.
    """
    index = rows.labels.values
    if not rows.labels.is_index:
        return index
    if reading == "ranks":
        columns = torch.arange(rows.values.shape[1], device=index.device)
        return (columns < index[:, None]).to(rows.values.dtype)
    return torch.zeros_like(rows.values).scatter_(1, index[:, None], 1.0)


def _by_label_form(rows: BlockRows) -> Iterator[tuple[BlockRows, Tensor | slice]]:
    """Yield rows with an index, then rows with a distribution, and which they are.

    A distribution with all its mass on one class is that class: it takes the index's path row by
    row, so that its numbers are equal whatever stands in the rows beside it.
    """
    if rows.labels.is_index:
        yield rows, slice(None)
        return
    targets = rows.labels.values
    certain = (targets.amax(dim=1) == 1) & (targets.sum(dim=1, dtype=torch.float64) == 1)
    if certain.any():
        positions = certain.nonzero()[:, 0]
        chosen = rows.select(positions)
        index = chosen.labels.values.argmax(dim=1)
        yield replace(chosen, labels=LabelRows(index, None)), positions
    if not certain.all():
        positions = (~certain).nonzero()[:, 0]
        yield rows.select(positions), positions


def check_weights(weights: Tensor, layout: Layout) -> None:
    """Check that sample weights fit logits of this layout.

    Raises:
        UnsupportedDtype, ShapeMismatch: they do not.
    """
    _weights_view(weights, layout)


def _weights_view(weights: Tensor, layout: Layout) -> Tensor:
    """Return sample weights so that the index of a block selects those of its rows."""
    if weights.dtype.is_complex:
        raise UnsupportedDtype("sample weights are complex numbers", pointer=_WEIGHTS_POINTER)
    shape = tuple(weights.shape)
    if shape == layout.row_shape or (layout.classes == 1 and weights.numel() == layout.rows):
        return weights.reshape(layout.row_shape)
    if shape == layout.row_shape[:1]:
        # One weight per sample: all positions of the sample share it.
        spread = weights.reshape(-1, *[1] * (len(layout.row_shape) - 1))
        return spread.expand(layout.row_shape)
    raise ShapeMismatch(
        f"sample_weights have shape {shape}: give one per row, {layout.row_shape}",
        pointer=_WEIGHTS_POINTER,
    )
