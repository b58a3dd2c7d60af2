"""An answer document as an inference response: outputs by name, in JSON or behind it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import orjson
import torch
from torch import Tensor

from service.errors import invalid
from service.wire.kserve.asked import Asked
from service.wire.kserve.compression import compressed
from service.wire.kserve.datatypes import DTYPES, NAMES
from service.wire.kserve.framing import LENGTH
from service.wire.kserve.outputs import GRADIENT
from service.wire.kserve.request import Inference

JSON: Final = "application/json"
BINARY: Final = "application/octet-stream"
VERSION: Final = "1"


@dataclass(frozen=True, slots=True)
class Response:
    """The bytes of a response, and the headers that say how to read them."""

    chunks: Sequence[bytes | memoryview]
    headers: Mapping[str, str]


def encode(
    document: Mapping[str, object], inference: Inference, model: str, coding: str | None
) -> Response:
    """Encode an answer.

    Args:
        document: the answer, with tensors as leaves.
        inference: what was asked.
        model: who answers.
        coding: the content coding; ``None`` for none.

    Raises:
        InvalidDocument: an output that labels of this kind do not have.
    """
    blobs: list[memoryview] = []
    answer: dict[str, object] = {"model_name": model, "model_version": VERSION}
    if inference.id is not None:
        answer["id"] = inference.id
    answer["parameters"] = _parameters(document)
    answer["outputs"] = [_output(each, document, blobs) for each in inference.asked]
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    chunks: list[bytes | memoryview] = [head, *blobs]
    headers = {"content-type": JSON}
    if any(each.binary for each in inference.asked):
        headers = {"content-type": BINARY, LENGTH: str(len(head))}
    if coding is not None:
        chunks = compressed(chunks, coding)
        headers |= {"content-encoding": coding}
    return Response(chunks, {**headers, "vary": "Accept-Encoding"})


def _parameters(document: Mapping[str, object]) -> dict[str, object]:
    """Return what a reader of the outputs alone would not learn."""
    diagnostics = document["diagnostics"]
    codes = [each["code"] for each in diagnostics] if isinstance(diagnostics, list) else []
    told = {
        "family": document["family"],
        "label_kind": document["label_kind"],
        "undefined": document["undefined"],
        "diagnostics": ",".join(codes) or None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _output(
    asked: Asked, document: Mapping[str, object], blobs: list[memoryview]
) -> dict[str, object]:
    tensor = _tensor(asked, document)
    entry: dict[str, object] = {
        "name": asked.output.name,
        "datatype": NAMES[tensor.dtype],
        "shape": list(tensor.shape),
    }
    if not asked.binary:
        return {**entry, "data": _numbers(tensor)}
    if tensor.nbytes:
        blobs.append(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return {**entry, "parameters": {"binary_data_size": tensor.nbytes}}


def _tensor(asked: Asked, document: Mapping[str, object]) -> Tensor:
    output = asked.output
    found: object = document
    for step in output.path:
        if not isinstance(found, Mapping) or step not in found:
            family = document["family"]
            raise invalid(
                asked.pointer, f"labels of this kind, family {family}, have no {output.name}"
            )
        found = found[step]
    dtype = DTYPES[output.datatype]
    if isinstance(found, Tensor):
        dtype = found.dtype if output.name == GRADIENT else dtype
        return found.cpu().to(dtype).contiguous()
    values = found if isinstance(found, list) else [found]
    return torch.tensor([math.nan if value is None else value for value in values], dtype=dtype)


def _numbers(tensor: Tensor) -> object:
    """Return the numbers in one list; those that are not finite become null."""
    wide = tensor.float() if tensor.dtype == torch.float16 else tensor
    return np.ascontiguousarray(wide.reshape(-1).numpy())
