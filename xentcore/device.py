"""Where blocks are computed, how large they are, and how they get there."""

from re import fullmatch
from typing import Final

import torch
from torch import Tensor

from xentcore.errors import DeviceUnavailable

# So many numbers of a row each, dozens of them, stay in the cache.
CPU_BLOCK_ROWS: Final = 1 << 16
# Rows of few classes are worked on side by side, so many at once.
VECTOR_ROWS: Final = 16
# On a GPU a block of this many elements hides the launches; more would only cost memory.
CUDA_BLOCK_ELEMENTS: Final = 1 << 25
# A block of the widest evaluation holds about this many bytes of temporaries per element.
_CUDA_BYTES_PER_ELEMENT: Final = 64


def resolve_device(name: str) -> torch.device:
    """Return the device of this name: ``auto`` (CUDA where there is one), ``cpu``, ``cuda[:n]``.

    Raises:
        DeviceUnavailable: another name, or a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    spelled = fullmatch(r"cuda(?::(\d{1,3}))?", name)
    if spelled is None:
        raise DeviceUnavailable(f"unknown device '{name[:32]}': use auto, cpu, cuda or cuda:N")
    number = int(spelled[1] or 0)
    count = torch.cuda.device_count()
    if number >= count:
        raise DeviceUnavailable(
            f"device '{name}' is not here: this machine has {count} CUDA devices"
        )
    return torch.device("cuda", number)


def block_rows(classes: int, device: torch.device, *, elements: int) -> int:
    """Return how many rows of this width make a good block: at least one.

    Args:
        classes: how many a row has.
        device: where the block is computed.
        elements: how many a block has on a CPU.
    """
    classes = max(classes, 1)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # A quarter: other workers compute on the same device.
        elements = min(CUDA_BLOCK_ELEMENTS, free // (4 * _CUDA_BYTES_PER_ELEMENT))
        return max(1, elements // classes)
    rows = min(elements // classes, CPU_BLOCK_ROWS)
    # Whole vectors of rows, where there are enough.
    return max(1, rows - rows % VECTOR_ROWS if rows > VECTOR_ROWS else rows)


def to_device(block: Tensor, device: torch.device) -> Tensor:
    """Return a block on the device; a CPU block goes to CUDA through pinned memory."""
    if device.type == "cpu" or block.device == device:
        return block.to(device)
    # pin_memory takes from PyTorch's cache of pinned buffers, which waits for the copies from them.
    return block.contiguous().pin_memory().to(device, non_blocking=True)  # pragma: no cover  (CUDA)
