"""The header of a safetensors body: how long and how large everything else is, read strictly."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from simdjson import Array, Object

from service.errors import Malformed, invalid
from service.wire.document import KEYS, Value, entries_of, parse, request_document
from service.wire.payload import TORCH_DTYPES, Body, Limits, extent, required

METADATA: Final = "__metadata__"
REQUEST: Final = "request"  # the metadata key of the document
LENGTH_BYTES: Final = 8
HEADER_BYTES: Final = 100_000_000  # the format's own bound
TENSORS: Final = ("logits", "labels", "sample_weights", "class_weights")

DTYPES: Final[Mapping[str, torch.dtype]] = {
    "F16": TORCH_DTYPES["float16"],
    "BF16": TORCH_DTYPES["bfloat16"],
    "F32": TORCH_DTYPES["float32"],
    "F64": TORCH_DTYPES["float64"],
    "I8": TORCH_DTYPES["int8"],
    "I16": TORCH_DTYPES["int16"],
    "I32": TORCH_DTYPES["int32"],
    "I64": TORCH_DTYPES["int64"],
    "U8": TORCH_DTYPES["uint8"],
    "U16": TORCH_DTYPES["uint16"],
    "U32": TORCH_DTYPES["uint32"],
    "U64": TORCH_DTYPES["uint64"],
    "BOOL": TORCH_DTYPES["bool"],
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the header: ``begin`` and ``end`` count from the first byte after it."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says: the request's document, the tensors, and how many bytes they take."""

    document: Mapping[str, object]
    entries: Mapping[str, Entry]
    data_bytes: int

    @property
    def logits(self) -> Entry:
        """The logits' entry."""
        return self.entries["logits"]

    @property
    def class_axis(self) -> object:
        """The axis of the classes, as asked for; it may be none that the logits have."""
        return self.document.get("class_axis", 1)

    @property
    def others_end(self) -> int:
        """Where the last tensor but the logits ends."""
        others = (entry.end for entry in self.entries.values() if entry is not self.logits)
        return max(others, default=0)

    @property
    def rows_are_in_order(self) -> bool:
        """Whether the bytes of the logits come row after row."""
        shape = self.logits.shape
        first_is_classes = self.class_axis in (0, -len(shape)) and len(shape) > 1
        rows, _ = extent(shape, self.class_axis)
        return bool(rows) and not first_is_classes


def header_end(first: Body, length: int | None) -> int:
    """Return where the header ends, by the first bytes of a body of ``length`` bytes.

    Raises:
        Malformed: the header would be longer than any, or than the body.
    """
    if length is not None and length < LENGTH_BYTES:
        raise Malformed(f"a safetensors body has at least {LENGTH_BYTES} bytes, not {length}")
    claimed = int.from_bytes(first[:LENGTH_BYTES].tobytes(), "little")
    if claimed > HEADER_BYTES:
        raise Malformed(f"the header claims {claimed} bytes, more than {HEADER_BYTES}")
    if length is not None and LENGTH_BYTES + claimed > length:
        raise Malformed(f"the header claims {claimed} bytes, there are {length - LENGTH_BYTES}")
    return LENGTH_BYTES + claimed


def read_header(
    text: Body,
    limits: Limits,
    fields: Collection[str],
    *,
    tensors: Collection[str] = TENSORS,
    needed: Callable[[Mapping[str, object]], Collection[str]] = required,
) -> Header:
    """Read the header's JSON.

    Args:
        text: the JSON.
        limits: of the batch.
        fields: names that the document may have.
        tensors: which there may be.
        needed: which must be there, by the document.

    Raises:
        Malformed: no header, or offsets and shapes that do not fit each other.
        TooLarge: a batch above ``limits``.
        InvalidDocument: a header, but no request.
    """
    values = entries_of(_object(text), "", known=(*tensors, METADATA))
    document = _document(values.pop(METADATA, None), limits, fields)
    entries = {name: _entry(name, value) for name, value in values.items()}
    for name in needed(document):
        if name not in entries:
            raise invalid(f"/{name}", "is required")
    for entry in entries.values():
        limits.check(entry.name, entry.shape, document.get("class_axis", 1))
    return Header(document, entries, _data_bytes(list(entries.values())))


def check_length(data_bytes: int, there: int) -> None:
    """Check that as many bytes follow the header as its tensors take.

    Raises:
        Malformed: they are more, or fewer.
    """
    if data_bytes != there:
        raise Malformed(f"the tensors take {data_bytes} bytes, {there} follow the header")


def _object(text: Body) -> Object:
    if not len(text) or text[0] != ord("{"):
        raise Malformed("the header does not start with '{'")
    try:
        header = parse(text)
    except Malformed as error:
        raise Malformed(f"the header: {error}") from None
    if not isinstance(header, Object):  # pragma: no cover  (it starts with a brace)
        raise Malformed("the header is no object")
    return header


def _document(metadata: Value, limits: Limits, fields: Collection[str]) -> dict[str, object]:
    """Return the request's document, which the metadata holds as JSON in a string."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Object):
        raise Malformed(f"{METADATA} is no object")
    # "format" is what the framework bindings of the format write by themselves.
    values = entries_of(metadata, f"/{METADATA}", known=(REQUEST, "format"))
    text = values.get(REQUEST, "{}")
    if not isinstance(text, str):
        raise Malformed(f"{METADATA}: {REQUEST} is no string")
    return request_document(text.encode(), limits, fields)


def _entry(name: str, value: Value) -> Entry:
    if not isinstance(value, Object):
        raise Malformed(f"the header's entry {name} is no object")
    fields = entries_of(value, f"/{name}", known=("dtype", "shape", "data_offsets"))
    missing = {"dtype", "shape", "data_offsets"} - set(fields)
    if missing:
        raise Malformed(f"the header's entry {name} lacks {', '.join(sorted(missing))}")
    dtype = DTYPES.get(str(fields["dtype"]))
    if dtype is None:
        raise invalid(f"/{name}", f"its dtype must be one of {', '.join(DTYPES)}")
    shape = _sizes(name, "shape", fields["shape"])
    offsets = _sizes(name, "data_offsets", fields["data_offsets"])
    if len(offsets) != 2:  # noqa: PLR2004  (begin and end)
        raise Malformed(f"{name}: data_offsets are two numbers, not {len(offsets)}")
    return Entry(name, dtype, shape, *offsets)


def _sizes(name: str, what: str, value: Value) -> tuple[int, ...]:
    if not isinstance(value, Array):
        raise Malformed(f"{name}: {what} is no list")
    if len(value) > KEYS:
        raise Malformed(f"{name}: {what} has {len(value)} entries")
    sizes = [size for size in value if type(size) is int and size >= 0]
    if len(sizes) != len(value):
        raise Malformed(f"{name}: {what} holds something other than whole numbers from 0")
    return tuple(sizes)


def _data_bytes(entries: list[Entry]) -> int:
    """Return how many bytes the tensors take: no gap, no overlap."""
    position = 0
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        needed = math.prod(entry.shape) * entry.dtype.itemsize
        if entry.end - entry.begin != needed:
            raise Malformed(
                f"{entry.name}: shape and dtype need {needed} bytes, "
                f"its offsets hold {entry.end - entry.begin}"
            )
        if entry.begin != position:
            raise Malformed(f"{entry.name} starts at byte {entry.begin}, not at {position}")
        position = entry.end
    return position
