"""Columns of a record batch as tensors: which there may be, and what is checked beforehand."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, overload

import pyarrow as pa
import torch
from torch import Tensor
from typing_extensions import override

from service.errors import Malformed, invalid
from service.wire.payload import Body, view
from service.wire.stream import Part

LOGITS: Final = "logits"
FEATURES: Final = "features"
LABEL: Final = "label"
WEIGHT: Final = "sample_weight"
ID: Final = "sample_id"
BESIDE: Final = (LABEL, WEIGHT, ID)
# Where the document of a request has the same: what errors point to.
POINTERS: Final = {
    LOGITS: "logits",
    FEATURES: "features",
    LABEL: "labels",
    WEIGHT: "sample_weights",
    ID: "sample_ids",
}

FLOATS: Final = {
    pa.float16(): torch.float16,
    pa.float32(): torch.float32,
    pa.float64(): torch.float64,
}
INTEGERS: Final = {
    pa.int8(): torch.int8,
    pa.int16(): torch.int16,
    pa.int32(): torch.int32,
    pa.int64(): torch.int64,
    pa.uint8(): torch.uint8,
    pa.uint16(): torch.uint16,
    pa.uint32(): torch.uint32,
    pa.uint64(): torch.uint64,
}
NUMBERS: Final = {**FLOATS, **INTEGERS, pa.bool_(): torch.bool}
IDS: Final = (*INTEGERS, pa.string(), pa.large_string())


@dataclass(frozen=True, slots=True)
class Kind:
    """What a column of numbers holds: their type, and how many are in a row (``()`` for one)."""

    dtype: torch.dtype
    each: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a stream, as its schema has them; ``name`` is that of logits or features."""

    name: str
    logits: Kind
    label: Kind
    weight: Kind | None
    ids: bool

    @property
    def classes(self) -> int:
        """How many classes a row has."""
        return self.logits.each[0]

    def part(self, batch: pa.RecordBatch, memory: Body) -> Part:
        """Return a record batch that was validated in full; its tensors are views of ``memory``.

        Raises:
            InvalidDocument: a row without a value.
            Malformed: buffers that lie elsewhere.
        """
        for name in batch.schema.names:
            _refuse_nulls(name, batch.column(name))
        return Part(
            _tensor(batch.column(self.name), self.logits, memory),
            _tensor(batch.column(LABEL), self.label, memory),
            None if self.weight is None else _tensor(batch.column(WEIGHT), self.weight, memory),
            Ids(batch.column(ID)) if self.ids else None,
        )


def columns_of(schema: pa.Schema, what: str = LOGITS) -> Columns:
    """Return the columns of a stream of logits, or of features.

    Raises:
        InvalidDocument: columns that are unknown, missing, named twice or of another type.
    """
    names = list(schema.names)
    known = (what, *BESIDE)
    for name in names:
        if name not in known:
            raise invalid("", f"has a column that is unknown; known: {', '.join(known)}")
        if names.count(name) > 1:
            raise invalid(f"/{POINTERS[name]}", f"the column {name} is there twice")
    for name in (what, LABEL):
        if name not in names:
            raise invalid(f"/{POINTERS[name]}", f"the column {name} is required")
    if ID in names and schema.field(ID).type not in IDS:
        raise invalid(f"/{POINTERS[ID]}", f"the column {ID} holds strings or integers")
    return Columns(
        name=what,
        logits=(_logits_kind if what == LOGITS else _features_kind)(schema.field(what).type),
        label=_label_kind(schema.field(LABEL).type),
        weight=_weight_kind(schema.field(WEIGHT).type) if WEIGHT in names else None,
        ids=ID in names,
    )


def _is_list_of(kind: pa.DataType, numbers: Collection[pa.DataType]) -> bool:
    # Damaged schemas may claim sizes below 0.
    return pa.types.is_fixed_size_list(kind) and kind.value_type in numbers and kind.list_size > 0


def _logits_kind(kind: pa.DataType) -> Kind:
    if _is_list_of(kind, FLOATS):
        return Kind(FLOATS[kind.value_type], (kind.list_size,))
    raise invalid(
        "/logits",
        "the column logits is a fixed-size list of float16, float32 or float64, as long as there "
        "are classes",
    )


def _features_kind(kind: pa.DataType) -> Kind:
    if _is_list_of(kind, NUMBERS):
        return Kind(NUMBERS[kind.value_type], (kind.list_size,))
    raise invalid("/features", "the column features is a fixed-size list of numbers")


def _label_kind(kind: pa.DataType) -> Kind:
    if _is_list_of(kind, NUMBERS):
        return Kind(NUMBERS[kind.value_type], (kind.list_size,))
    if kind in NUMBERS:
        return Kind(NUMBERS[kind], ())
    raise invalid(
        "/labels",
        "the column label holds integers, or fixed-size lists of numbers as long as there are "
        "classes; dictionaries are not read",
    )


def _weight_kind(kind: pa.DataType) -> Kind:
    if kind in FLOATS:
        return Kind(FLOATS[kind], ())
    raise invalid(
        "/sample_weights", f"the column {WEIGHT} holds float16, float32 or float64 numbers"
    )


def _refuse_nulls(name: str, column: pa.Array) -> None:
    """Refuse rows without a value, naming the first one of the record batch."""
    values = column
    each = 1
    if not column.null_count and isinstance(column, pa.FixedSizeListArray):
        values, each = _entries(column), column.type.list_size
    if not values.null_count:
        return
    place = values.is_null().index(pa.scalar(value=True)).as_py()
    row, entry = divmod(place, each)
    where = f"row {row}" if values is column else f"entry {entry} of row {row}"
    raise invalid(
        f"/{POINTERS[name]}",
        f"the column {name} has no value in {where} of a record batch: "
        "leave such rows out, or mark them with ignore_index",
    )


def _entries(column: pa.FixedSizeListArray) -> pa.Array:
    """Return the numbers of all lists; a sender may have put more behind them."""
    return column.values.slice(0, len(column) * column.type.list_size)


def _tensor(column: pa.Array, kind: Kind, memory: Body) -> Tensor:
    """Return a column as a view of the message's memory; booleans, which are bits there, copied."""
    values = _entries(column) if kind.each else column
    shape = (len(column), *kind.each)
    if kind.dtype == torch.bool:
        return torch.from_numpy(values.to_numpy(zero_copy_only=False)).view(shape)
    data = values.buffers()[1]
    size = len(values) * kind.dtype.itemsize
    if not size:
        return torch.empty(shape, dtype=kind.dtype)
    offset = data.address + values.offset * kind.dtype.itemsize - memory.ctypes.data
    if not 0 <= offset <= len(memory) - size:
        raise Malformed("the buffers of a record batch are not in its message")
    return view(memory, offset, shape, kind.dtype)


class Ids(Sequence[str | int]):
    """The names of a record batch's rows, made into objects one at a time."""

    def __init__(self, column: pa.Array) -> None:
        self._column = column

    @overload
    def __getitem__(self, row: int) -> str | int: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[str | int]: ...
    @override
    def __getitem__(self, row: int | slice) -> str | int | Sequence[str | int]:
        if isinstance(row, slice):
            return Ids(self._column[row])
        name: str | int = self._column[row].as_py()
        return name

    @override
    def __iter__(self) -> Iterator[str | int]:
        return iter(self._column.to_pylist())

    @override
    def __len__(self) -> int:
        return len(self._column)
