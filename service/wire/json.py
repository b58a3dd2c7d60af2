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
    document, tensors = _read(body, limits, fields, TENSORS)
    for name in required(document):
        if name not in tensors:
            raise invalid(f"/{name}", "is required")
    logits, labels = tensors["logits"], tensors.get("labels")
    return Payload(document, logits, labels, tensors.get("sample_weights"))


def decode_labels(body: Body, limits: Limits, fields: Collection[str]) -> LabelsPayload:
    """Decode labels that come without their logits. Raises as :func:`decode` does."""
    document, tensors = _read(body, limits, fields, ("labels",))
    if not tensors:
        raise invalid("/labels", "is required")
    return LabelsPayload(document, tensors["labels"])


def _read(
    body: Body, limits: Limits, fields: Collection[str], names: Sequence[str]
) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Return the document of a body, and those of the named tensors that it holds."""
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
    nulls = 0

    def plain(value: object) -> object:
        nonlocal nulls
        if isinstance(value, Tensor):
            if value.dtype in {torch.float16, torch.bfloat16}:
                value = value.float()
            array = np.ascontiguousarray(value.cpu().numpy())
            if value.is_floating_point():
                nulls += array.size - int(np.count_nonzero(np.isfinite(array)))
            return array if value.ndim else array.item()
        if isinstance(value, Mapping):
            return {key: plain(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [plain(entry) for entry in value]
        if isinstance(value, float) and not math.isfinite(value):
            nulls += 1
            return None
        return value

    answer = {key: plain(value) for key, value in document.items()}
    answer["nulls"] = nulls
    return [orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)]
