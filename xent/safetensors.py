"""``application/x-safetensors``: eight bytes of header length, a JSON header, tensors' bytes.

Memory is handed on, not copied: a request is a list of views, an answer's tensors are views of it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from xent.errors import Unreadable
from xent.tensors import DTYPES, Tensor

MEDIA_TYPE: Final = "application/x-safetensors"
METADATA: Final = "__metadata__"
LENGTH_BYTES: Final = 8
ALIGNMENT: Final = 8
FIRST: Final = ("sample_weights", "labels", "logits")
"""The order on the wire: the service evaluates logits that come last while they arrive."""

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Contents:
    """What a safetensors body holds.

    Attributes:
        tensors: by name, views of the body.
        metadata: texts beside them.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def write(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[Buffer]:
    """Return a body in parts, the tensors' own memory among them."""
    header: dict[str, object] = {METADATA: dict(metadata)}
    parts: list[Buffer] = []
    offset = 0
    for name in sorted(tensors, key=_place):
        tensor = tensors[name]
        end = offset + tensor.values.nbytes
        header[name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [offset, end],
        }
        if end > offset:
            parts.append(tensor.data)
        offset = end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % ALIGNMENT)
    return [len(head).to_bytes(LENGTH_BYTES, "little") + head, *parts]


def _place(name: str) -> tuple[int, str]:
    # Behind eight-byte labels everything is aligned; narrow labels leave the logits unaligned,
    # which the service then copies.
    return (FIRST.index(name) if name in FIRST else -1, name)


def read(body: Buffer) -> Contents:
    """Read a body.

    Raises:
        Unreadable: lengths, offsets or shapes that do not fit the bytes.
    """
    view = memoryview(body)
    start = LENGTH_BYTES + int.from_bytes(view[:LENGTH_BYTES], "little")
    if len(view) < LENGTH_BYTES or start > len(view):
        raise Unreadable("the safetensors body is shorter than its header")
    try:
        header = json.loads(bytes(view[LENGTH_BYTES:start]))
        metadata = header.pop(METADATA, {})
        tensors = {name: _tensor(view[start:], entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"the safetensors body cannot be read: {error}") from None
    return Contents(tensors, metadata)


def _tensor(data: memoryview, entry: Mapping[str, Any]) -> Tensor:
    shape: Sequence[int] = entry["shape"]
    begin, end = entry["data_offsets"]
    dtype = DTYPES[entry["dtype"]]
    needed = math.prod(shape) * dtype.itemsize
    if not 0 <= begin <= end <= len(data) or end - begin != needed:
        raise ValueError("offsets and shapes do not fit the bytes")
    return Tensor(entry["dtype"], np.frombuffer(data[begin:end], dtype=dtype).reshape(shape))
