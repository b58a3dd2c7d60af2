"""``application/x-safetensors``: eight bytes of header length, a JSON header, the tensors' bytes.

Read in place: tensors are views of the body. The header is read here, strictly, because it says
how long and how large everything else is.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import orjson
import torch
from simdjson import Array, Object
from torch import Tensor

from service.errors import Malformed, invalid
from service.wire import json
from service.wire.document import DEPTH, KEYS, Plain, Value, entries_of, parse
from service.wire.payload import (
    TORCH_DTYPES,
    Body,
    Limits,
    Payload,
    all_there,
    extent,
    is_aligned,
    view,
)

MEDIA_TYPE: Final = "application/x-safetensors"
METADATA: Final = "__metadata__"
REQUEST: Final = "request"  # the metadata key of the document
RESPONSE: Final = "response"
LENGTH_BYTES: Final = 8
HEADER_BYTES: Final = 100_000_000  # the format's own bound
ALIGNMENT: Final = 8
TENSORS: Final = ("logits", "labels", "sample_weights", "class_weights")
MOVED: Final = ("gradient", "per_sample", "per_class", "row_statistics", "class_share")
"""Fields of an answer that travel as tensors; whatever else holds numbers stays in the JSON."""

LISTS: Final = ("results", "variants")
"""Fields of an answer that are lists of such objects."""

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
NAMES: Final[Mapping[torch.dtype, str]] = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the header: ``begin`` and ``end`` count from the first byte after it."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def decode(
    body: Body,
    limits: Limits,
    fields: Collection[str],
    arrived: Callable[[int], None] = all_there,
) -> Payload:
    """Decode a request. ``fields`` are the names that the document may have.

    Only the logits may still be arriving when it returns, and only if they come last.

    Raises:
        Malformed: lengths, offsets or shapes that do not fit the bytes.
        TooLarge: a batch above ``limits``.
        InvalidDocument: safetensors, but no request.
    """
    start, header = _header(body, arrived)
    values = entries_of(header, "", known=(*TENSORS, METADATA))
    document = _document(values.pop(METADATA, None), limits, fields)
    entries = {name: _entry(name, value) for name, value in values.items()}
    for name in ("logits", "labels"):
        if name not in entries:
            raise invalid(f"/{name}", "is required")
    for entry in entries.values():
        limits.check(entry.name, entry.shape, document.get("class_axis", 1))
    _check_offsets(list(entries.values()), len(body) - start)
    logits = entries["logits"]
    rows_bytes = _bytes_of_rows(logits, document.get("class_axis", 1))
    in_place = is_aligned(body, start + logits.begin, logits.dtype)
    others_end = max(entry.end for name, entry in entries.items() if name != "logits")
    arrived(start + (others_end if rows_bytes is not None and in_place else len(body)))
    tensors = {
        name: view(body, start + entry.begin, entry.shape, entry.dtype)
        for name, entry in entries.items()
    }

    def await_rows(rows: int) -> None:
        if rows_bytes is not None:
            arrived(start + logits.begin + rows_bytes(rows))

    return Payload(document, await_rows=await_rows, **tensors)


def _bytes_of_rows(logits: Entry, class_axis: object) -> Callable[[int], int] | None:
    """Return how many bytes of the logits hold the rows below a number, if the first bytes do."""
    shape = logits.shape
    first_is_classes = class_axis in (0, -len(shape)) and len(shape) > 1
    rows, _ = extent(shape, class_axis)
    if first_is_classes or not rows:
        return None
    rows_each = rows // shape[0]
    bytes_each = (logits.end - logits.begin) // shape[0]
    return lambda number: -(-number // rows_each) * bytes_each


def encode(document: Mapping[str, object]) -> list[bytes | memoryview]:
    """Encode an answer: tensors under their dotted path, the rest as JSON in the metadata.

    The tensors' own memory is handed on, not copied together.
    """
    tensors: dict[str, Tensor] = {}
    rest = _extract(document, "", tensors)
    (response,) = json.encode(rest)
    # Largest items first, as the format's own writer does: every tensor stays aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, object] = {METADATA: {RESPONSE: response.decode()}}
    chunks: list[bytes | memoryview] = []
    offset = 0
    for name in names:
        tensor = tensors[name].cpu().contiguous()
        size = tensor.nbytes
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
        if size:
            chunks.append(tensor.reshape(-1).view(torch.uint8).numpy().data)
    head = orjson.dumps(header)
    head += b" " * (-len(head) % ALIGNMENT)
    return [len(head).to_bytes(LENGTH_BYTES, "little") + head, *chunks]


def _extract(
    document: Mapping[str, object], prefix: str, tensors: dict[str, Tensor]
) -> dict[str, object]:
    """Return ``document`` without its tensors, which are added to ``tensors`` by dotted path."""
    rest: dict[str, object] = {}
    for key, value in document.items():
        path = f"{prefix}{key}"
        if isinstance(value, Tensor):
            tensors[path] = value
        elif key in LISTS and isinstance(value, list):
            rest[key] = [
                _extract(entry, f"{path}.{index}.", tensors) for index, entry in enumerate(value)
            ]
        elif key in MOVED and isinstance(value, Mapping):
            rest[key] = _extract(value, f"{path}.", tensors)
        else:
            rest[key] = value
    return rest


def _header(body: Body, arrived: Callable[[int], None]) -> tuple[int, Object]:
    """Return where the tensors' bytes start, and the header."""
    if len(body) < LENGTH_BYTES:
        raise Malformed(f"a safetensors body has at least {LENGTH_BYTES} bytes, not {len(body)}")
    arrived(LENGTH_BYTES)
    length = int.from_bytes(body[:LENGTH_BYTES].tobytes(), "little")
    if length > HEADER_BYTES:
        raise Malformed(f"the header claims {length} bytes, more than {HEADER_BYTES}")
    start = LENGTH_BYTES + length
    if start > len(body):
        raise Malformed(f"the header claims {length} bytes, there are {len(body) - LENGTH_BYTES}")
    arrived(start)
    text = Body(body[LENGTH_BYTES:start])
    if not length or text[0] != ord("{"):
        raise Malformed("the header does not start with '{'")
    try:
        header = parse(text)
    except Malformed as error:
        raise Malformed(f"the header: {error}") from None
    if not isinstance(header, Object):  # pragma: no cover  (it starts with a brace)
        raise Malformed("the header is no object")
    return start, header


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
    root = parse(Body(np.frombuffer(text.encode(), dtype=np.uint8)))
    if not isinstance(root, Object):
        raise invalid("", "the request is no JSON object")
    plain = Plain(limits.document_entries)
    return {
        name: plain.value(value, f"/{name}", DEPTH)
        for name, value in entries_of(root, "", known=fields).items()
    }


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


def _check_offsets(entries: list[Entry], data_bytes: int) -> None:
    """Check that the tensors fill the bytes after the header: no gap, no overlap, no rest."""
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
    if position != data_bytes:
        raise Malformed(f"the tensors take {position} bytes, {data_bytes} follow the header")
