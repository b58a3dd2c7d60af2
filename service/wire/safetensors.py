"""``application/x-safetensors``: eight bytes of header length, a JSON header, the tensors' bytes.

Read in place: tensors are views of the body.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final

import orjson
import torch
from torch import Tensor

from service.wire import json
from service.wire.payload import (
    Body,
    LabelsPayload,
    Limits,
    Payload,
    all_there,
    extent,
    is_aligned,
    view,
)
from service.wire.safetensors_header import (
    DTYPES,
    LENGTH_BYTES,
    METADATA,
    Header,
    check_length,
    header_end,
    read_header,
)

MEDIA_TYPE: Final = "application/x-safetensors"
RESPONSE: Final = "response"
ALIGNMENT: Final = 8
TENSORS: Final = ("logits", "labels", "sample_weights", "class_weights")
MOVED: Final = ("gradient", "per_sample", "per_class", "row_statistics", "class_share")
"""Fields of an answer that travel as tensors; whatever else holds numbers stays in the JSON."""

LISTS: Final = ("results", "variants")
"""Fields of an answer that are lists of such objects."""

NAMES: Final[Mapping[torch.dtype, str]] = {dtype: name for name, dtype in DTYPES.items()}


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
    arrived(min(LENGTH_BYTES, len(body)))
    start = header_end(body, len(body))
    arrived(start)
    header = read_header(Body(body[LENGTH_BYTES:start]), limits, fields)
    check_length(header.data_bytes, len(body) - start)
    logits = header.logits
    early = header.rows_are_in_order and is_aligned(body, start + logits.begin, logits.dtype)
    arrived(start + header.others_end if early else len(body))
    tensors = {
        name: view(body, start + entry.begin, entry.shape, entry.dtype)
        for name, entry in header.entries.items()
    }

    def await_rows(rows: int) -> None:
        if early:
            arrived(start + logits.begin + _bytes_of_rows(header, rows))

    return Payload.of(header.document, tensors, await_rows=await_rows)


def decode_labels(body: Body, limits: Limits, fields: Collection[str]) -> LabelsPayload:
    """Decode labels that come without their logits. Raises as :func:`decode` does."""
    start = header_end(body, len(body))
    header = read_header(
        Body(body[LENGTH_BYTES:start]),
        limits,
        fields,
        tensors=("labels",),
        needed=lambda _: ("labels",),
    )
    check_length(header.data_bytes, len(body) - start)
    entry = header.entries["labels"]
    labels = view(body, start + entry.begin, entry.shape, entry.dtype)
    return LabelsPayload(header.document, labels)


def _bytes_of_rows(header: Header, number: int) -> int:
    """Return how many bytes of the logits hold the rows below a number, if they are in order."""
    logits = header.logits
    rows, _ = extent(logits.shape, header.class_axis)
    entries = -(-number // (rows // logits.shape[0]))
    return entries * ((logits.end - logits.begin) // logits.shape[0])


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
