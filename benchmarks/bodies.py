"""Batches as request bodies."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

JSON: Final = "application/json"
SAFETENSORS: Final = "application/x-safetensors"
SEED: Final = 0
BLOCK_BYTES: Final = 1 << 24


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
    head = _head(len(logits), logits.shape[1], request)
    return b"".join((head, labels.numpy().tobytes(), logits.numpy().tobytes()))


@dataclass(frozen=True, slots=True)
class Endless:
    """A safetensors body of any size in little memory: the same block of rows, over and over.

    Attributes:
        head: header and labels.
        block: rows of logits.
        times: how often the block comes.
    """

    head: bytes
    block: bytes
    times: int

    def __len__(self) -> int:
        return len(self.head) + self.times * len(self.block)

    def __iter__(self) -> Iterator[bytes]:
        yield self.head
        for _ in range(self.times):
            yield self.block


def endless(rows: int, classes: int, **request: object) -> Endless:
    """Return a body of as many rows, in blocks as large as fit, which must divide them."""
    per_block = min(rows, BLOCK_BYTES // (4 * classes))
    while rows % per_block:
        per_block -= 1
    logits, _ = batch(per_block, classes)
    labels = torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(SEED))
    head = _head(rows, classes, request) + labels.numpy().tobytes()
    return Endless(head, logits.numpy().tobytes(), rows // per_block)


def _head(rows: int, classes: int, request: dict[str, object]) -> bytes:
    """Return the header; labels come first, so that rows can be read as they come."""
    end = 8 * rows
    header = {
        "__metadata__": {"request": json.dumps(request)},
        "labels": {"dtype": "I64", "shape": [rows], "data_offsets": [0, end]},
        "logits": {
            "dtype": "F32",
            "shape": [rows, classes],
            "data_offsets": [end, end + 4 * rows * classes],
        },
    }
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head
