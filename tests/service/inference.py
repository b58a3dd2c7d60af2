"""Inference requests: as their official client makes them, and as nobody should."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.utils import np_to_triton_dtype

Array = NDArray[Any]
LENGTH = "inference-header-content-length"
LOGITS = np.random.default_rng(7).normal(size=(6, 5)).astype(np.float32)
LABELS = np.arange(6, dtype=np.int64) % 5
REALS = {"FP16": np.float16, "BF16": ml_dtypes.bfloat16, "FP32": np.float32, "FP64": np.float64}


def sent(tensors: Mapping[str, Any], *, binary: bool = True) -> list[InferInput]:
    """Return inputs as the official client has them."""
    found = []
    for name, array in tensors.items():
        found.append(InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        found[-1].set_data_from_numpy(array, binary_data=binary)
    return found


def wanted(names: Sequence[str], *, binary: bool = True) -> list[InferRequestedOutput]:
    """Return outputs as the official client asks for them."""
    return [InferRequestedOutput(name, binary_data=binary) for name in names]


def entry(name: str, array: Array, **more: object) -> dict[str, Any]:
    """Return an input whose numbers are elsewhere."""
    datatype = np_to_triton_dtype(array.dtype)
    return {"name": name, "datatype": datatype, "shape": list(array.shape), **more}


def behind(name: str, array: Array) -> dict[str, Any]:
    """Return an input whose numbers are binary data."""
    return entry(name, array, parameters={"binary_data_size": array.nbytes})


def in_json(name: str, array: Array) -> dict[str, Any]:
    """Return an input whose numbers are nested lists."""
    return entry(name, array, data=array.tolist())


BINARY = [behind("logits", LOGITS), behind("labels", LABELS)]
BLOBS = LOGITS.tobytes() + LABELS.tobytes()
JSON = [in_json("logits", LOGITS), in_json("labels", LABELS)]


def infer(
    client: httpx2.Client,
    request: Mapping[str, object] | bytes,
    blobs: bytes | None = None,
    *,
    model: str = "sparse",
    headers: Mapping[str, str] | None = None,
) -> httpx2.Response:
    """Send a request; with binary data behind it where there is some."""
    head = request if isinstance(request, bytes) else json.dumps(request).encode()
    length = {} if blobs is None else {LENGTH: str(len(head))}
    return client.post(
        f"/v2/models/{model}/infer",
        content=head + (blobs or b""),
        headers={**length, **(headers or {})},
    )


def numbers(response: httpx2.Response) -> dict[str, Any]:
    """Return the outputs that an answer holds as JSON, by name."""
    assert response.status_code == 200, response.text
    return {each["name"]: each["data"] for each in response.json()["outputs"]}
