"""Memory, of which the first touch costs more than the arithmetic on it.

What is large comes in large pages; what is as large as a block of logits is given back to its
thread, which lends it again.
"""

import math
import mmap
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import torch
from torch import Tensor

# From here on memory is asked for in large pages.
LARGE_BYTES: Final = 1 << 22
# What is smaller comes from memory that the allocator has at hand anyway; what is larger than any
# block is a row of its own.
_SMALLEST: Final = 1 << 17
_LARGEST: Final = 1 << 24
_KEPT: Final = 4
_FREE: Final = threading.local()
# What a thread was lent may be given back on another one, and while it takes (a collection).
_LOCK: Final = threading.RLock()


def empty_on_host(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a CPU tensor of any contents.

    The first touch of fresh memory costs more than all arithmetic on it: in pages of 4 KiB it was
    measured to take five times as long as in large ones, which Linux gives if they are asked for.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(shape, dtype=dtype)
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return torch.empty(shape, dtype=dtype)  # whose error everybody expects
    with suppress(OSError):  # a kernel without large pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(shape)


class Lease:
    """An owner, where there is no other."""


def lend(owner: object, like: Tensor) -> Tensor:
    """Return a tensor of any contents, of the shape, strides, dtype and device of another one.

    It is the owner's until that is gone; views of it must not live longer.
    """
    if not _is_pooled(like):
        return torch.empty_like(like)
    free = _free()
    memory = _take(free, like)
    weakref.finalize(owner, _give, free, memory).atexit = False
    return _shaped(memory, like)


@contextmanager
def lent(like: Tensor) -> Iterator[Tensor]:
    """Lend a tensor to a block of code, as :func:`lend` does to an owner."""
    if not _is_pooled(like):
        yield torch.empty_like(like)
        return
    free = _free()
    memory = _take(free, like)
    try:
        yield _shaped(memory, like)
    finally:
        _give(free, memory)


def _is_pooled(like: Tensor) -> bool:
    return like.device.type == "cpu" and _SMALLEST <= like.nbytes <= _LARGEST


def _free() -> list[Tensor]:
    found: list[Tensor] = _FREE.__dict__.setdefault("memory", [])
    return found


def _take(free: list[Tensor], like: Tensor) -> Tensor:
    with _LOCK:
        for place, memory in enumerate(free):
            if len(memory) >= like.nbytes:
                return free.pop(place)
    return empty_on_host((like.nbytes,), torch.uint8)


def _give(free: list[Tensor], memory: Tensor) -> None:
    with _LOCK:
        free.append(memory)
        if len(free) > _KEPT:
            free.pop(min(range(len(free)), key=lambda place: len(free[place])))


def _shaped(memory: Tensor, like: Tensor) -> Tensor:
    return memory[: like.nbytes].view(like.dtype).as_strided(like.shape, like.stride())
