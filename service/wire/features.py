"""Requests whose logits are still to be made: ``features`` in the place of ``logits``."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from service.errors import invalid
from service.wire import json
from service.wire.payload import Body, Limits, required, view
from service.wire.safetensors_header import LENGTH_BYTES, check_length, header_end, read_header

FEATURES: Final = "features"
JSON_TENSORS: Final = (FEATURES, "labels", "sample_weights")
TENSORS: Final = (*JSON_TENSORS, "class_weights")


@dataclass(frozen=True, slots=True)
class Features:
    """One decoded request: the tensors by name, and the rest of the document as plain values."""

    document: Mapping[str, object]
    tensors: Mapping[str, Tensor]


def from_json(body: Body, limits: Limits, fields: Collection[str]) -> Features:
    """Decode JSON whose tensors are nested lists or base64.

    Raises:
        Malformed: not JSON, or lists that are ragged.
        TooLarge: more than ``limits``.
        InvalidDocument: JSON, but no request.
    """
    document, tensors = json.read(body, limits, fields, JSON_TENSORS)
    for name in _needed(document):
        if name not in tensors:
            raise invalid(f"/{name}", "is required")
    _check_rows(tensors[FEATURES].shape, limits)
    return Features(document, tensors)


def from_safetensors(body: Body, limits: Limits, fields: Collection[str]) -> Features:
    """Decode safetensors, whose tensors are views of the body.

    Raises:
        Malformed: lengths, offsets or shapes that do not fit the bytes.
        TooLarge: more than ``limits``.
        InvalidDocument: safetensors, but no request.
    """
    start = header_end(body, len(body))
    text = Body(body[LENGTH_BYTES:start])
    header = read_header(text, limits, fields, tensors=TENSORS, needed=_needed)
    check_length(header.data_bytes, len(body) - start)
    _check_rows(header.entries[FEATURES].shape, limits)
    tensors = {
        name: view(body, start + entry.begin, entry.shape, entry.dtype)
        for name, entry in header.entries.items()
    }
    return Features(header.document, tensors)


def _needed(document: Mapping[str, object]) -> tuple[str, ...]:
    return (FEATURES, *(name for name in required(document) if name != "logits"))


def _check_rows(shape: Collection[int], limits: Limits) -> None:
    """Hold the features' first axis, which is that of the logits, to the limit of rows."""
    limits.check("logits", [*shape][:1], 1)
