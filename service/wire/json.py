"""``application/json``: one document, whose tensors are nested lists or base64."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import numpy as np
import orjson
import torch
from simdjson import Object
from torch import Tensor

from service.errors import invalid
from service.wire.document import DEPTH, Plain, entries_of, parse
from service.wire.lists import TensorReader
from service.wire.payload import Body, LabelsPayload, Limits, Payload, all_there, required

MEDIA_TYPE: Final = "application/json"
TENSORS: Final = ("logits", "labels", "sample_weights")


def decode(
    body: Body,
    limits: Limits,
    fields: Collection[str],
    arrived: Callable[[int], None] = all_there,
) -> Payload:
    """Decode a request. ``fields`` are the names that the document may have beside its tensors.

    Raises:
        Malformed: not JSON, or lists that are ragged.
        TooLarge: a batch above ``limits``.
        InvalidDocument: JSON, but no request.
    """
    arrived(len(body))  # the parser sees all of it at once
    document, tensors = read(body, limits, fields, TENSORS)
    for name in required(document):
        if name not in tensors:
            raise invalid(f"/{name}", "is required")
    logits, labels = tensors["logits"], tensors.get("labels")
    return Payload(document, logits, labels, tensors.get("sample_weights"))


def decode_labels(body: Body, limits: Limits, fields: Collection[str]) -> LabelsPayload:
    """Decode labels that come without their logits. Raises as :func:`decode` does."""
    document, tensors = read(body, limits, fields, ("labels",))
    if not tensors:
        raise invalid("/labels", "is required")
    return LabelsPayload(document, tensors["labels"])


def read(
    body: Body, limits: Limits, fields: Collection[str], names: Sequence[str]
) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Return the document of a body, and those of the named tensors that it holds.

    Raises:
        Malformed, TooLarge, InvalidDocument: as :func:`decode` does.
    """
    root = parse(body)
    if not isinstance(root, Object):
        raise invalid("", "a request is a JSON object")
    entries = entries_of(root, "", known=[*names, *fields])
    plain = Plain(limits.document_entries)
    document = {
        name: plain.value(value, f"/{name}", DEPTH)
        for name, value in entries.items()
        if name not in names
    }
    reader = TensorReader(limits, document.get("class_axis", 1))
    tensors = {name: reader.read(name, entries[name]) for name in names if name in entries}
    reader.refuse_hidden_nesting(body, known_arrays=plain.arrays, brackets=plain.brackets)
    return document, tensors


def encode(document: Mapping[str, object]) -> list[bytes]:
    """Encode an answer whose leaves may be tensors; numbers that are not finite become null."""
    plain = _Plain()
    answer = {key: plain.value(value) for key, value in document.items()}
    answer["nulls"] = plain.nulls
    return [orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)]


class _Plain:
    """Turns the parts of an answer into what can be written, and counts the nulls."""

    def __init__(self) -> None:
        self.nulls = 0

    def value(self, value: object) -> object:
        if value is None or isinstance(value, str | int):  # as most are
            return value
        if isinstance(value, float):
            return self._number(value)
        if isinstance(value, Tensor):
            return self._array(value)
        if isinstance(value, Mapping):
            return {key: self.value(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(entry) for entry in value]
        return value

    def _number(self, value: float) -> float | None:
        if math.isfinite(value):
            return value
        self.nulls += 1
        return None

    def _array(self, tensor: Tensor) -> object:
        if tensor.dtype in {torch.float16, torch.bfloat16}:
            tensor = tensor.float()
        array = np.ascontiguousarray(tensor.cpu().numpy())
        if tensor.is_floating_point():
            self.nulls += array.size - int(np.count_nonzero(np.isfinite(array)))
        return array if tensor.ndim else array.item()
