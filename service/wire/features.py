"""Requests whose logits are still to be made: ``features`` in the place of ``logits``."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from service.errors import invalid
from service.wire import json
from service.wire.arrow import ArrowStream
from service.wire.arrow_columns import FEATURES
from service.wire.payload import Body, Limits, Payload, required, view
from service.wire.piece import Piece
from service.wire.safetensors_header import LENGTH_BYTES, check_length, header_end, read_header
from service.wire.stream import Part, Terms

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


def from_arrow(body: Body, limits: Limits, fields: Collection[str]) -> Features:
    """Decode a whole Arrow stream, whose column ``features`` holds fixed-size lists of numbers.

    Raises:
        Malformed: the stream is damaged, or breaks off.
        TooLarge: more than ``limits``.
        InvalidDocument: a stream, but no request.
    """
    rows = _Rows(limits)
    size = len(body)
    terms = Terms(
        limits=limits,
        fields=fields,
        length=size,
        body_bytes=size,
        message_bytes=size,  # all of it is in memory
        spool_bytes=size,
        folder=Path(),  # for nothing
    )
    stream = ArrowStream(rows, terms, FEATURES)
    stream.push(Piece.of(body))
    stream.finish()
    return rows.features()


class _Rows:
    """Collects the rows of a stream."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._none: Payload | None = None
        self._parts: list[Part] = []
        self._count = 0

    def known(self, payload: Payload) -> bool:
        """Not asked: a stream of Arrow knows its rows as they come."""
        raise AssertionError(payload)

    def whole(self, payload: Payload) -> None:
        """Not asked, likewise."""
        raise AssertionError(payload)

    def unknown(self, payload: Payload) -> bool:
        """Take what rows are of. The body stays, and so do parts that are views of it."""
        self._none = payload
        return False

    def add(self, part: Part) -> None:
        """Take the next rows."""
        self._count += len(part.labels)
        _check_rows((self._count,), self._limits)
        self._parts.append(part)

    def features(self) -> Features:
        """Return all of them, each column in one piece."""
        payload, parts = self._none, self._parts
        if payload is None:
            raise AssertionError("asked of a stream that has ended")
        document = dict(payload.document)
        tensors = {
            FEATURES: _joined(payload.logits, [each.logits for each in parts]),
            "labels": _joined(payload.labels, [each.labels for each in parts]),
        }
        weights = [each.sample_weights for each in parts if each.sample_weights is not None]
        if weights:
            tensors["sample_weights"] = torch.cat(weights)
        ids = [name for each in parts for name in each.sample_ids or ()]
        if ids:
            document["sample_ids"] = ids
        return Features(document, tensors)


def _joined(none: Tensor | None, parts: list[Tensor]) -> Tensor:
    """Return all rows of a column; where there is none, an empty one like ``none``."""
    if parts or none is None:
        return torch.cat(parts)
    return torch.empty_like(none, device="cpu")


def _needed(document: Mapping[str, object]) -> tuple[str, ...]:
    return (FEATURES, *(name for name in required(document) if name != "logits"))


def _check_rows(shape: Collection[int], limits: Limits) -> None:
    """Hold the features' first axis, which is that of the logits, to the limit of rows."""
    limits.check("logits", [*shape][:1], 1)
