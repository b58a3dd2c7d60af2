"""Batches as request bodies."""

import json
from typing import Final

import torch
from torch import Tensor

JSON: Final = "application/json"
SAFETENSORS: Final = "application/x-safetensors"
SEED: Final = 0


def batch(rows: int, classes: int) -> tuple[Tensor, Tensor]:
    """Return logits, float32 (rows, classes), and labels, int64 (rows,). The same every time."""
    generator = torch.Generator().manual_seed(SEED)
    logits = torch.randn(rows, classes, generator=generator) * 3
    return logits, torch.randint(classes, (rows,), generator=generator)


def as_json(logits: Tensor, labels: Tensor) -> bytes:
    """Return nested lists, numbers with the digits that a float32 has."""
    numbers = [[float(f"{entry:.9g}") for entry in row] for row in logits.tolist()]
    return json.dumps({"logits": numbers, "labels": labels.tolist()}).encode()


def as_safetensors(logits: Tensor, labels: Tensor, **request: object) -> bytes:
    """Return the tensors' bytes, and the document in the header."""
    parts = {"labels": labels.numpy().tobytes(), "logits": logits.numpy().tobytes()}
    header: dict[str, object] = {"__metadata__": {"request": json.dumps(request)}}
    offset = 0
    for (name, data), (dtype, tensor) in zip(
        parts.items(), (("I64", labels), ("F32", logits)), strict=True
    ):
        end = offset + len(data)
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + b"".join(parts.values())
