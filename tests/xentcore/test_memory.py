"""Memory that is lent: the owner's while it lives, used again afterwards, never another's."""

import gc
import mmap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import torch

from xentcore.memory import LARGE_BYTES, Lease, empty_on_host, lend, lent

T = TypeVar("T")
LIKE = torch.empty(300, 500)


def in_a_thread(work: Callable[[], T]) -> T:
    """Return what comes of work on a thread of its own: nothing was lent to it before."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_memory_is_used_again_once_its_owner_is_gone() -> None:
    def work() -> tuple[list[int], int]:
        lease = Lease()
        there = [lend(lease, LIKE).data_ptr() for _ in range(2)]
        del lease
        gc.collect()
        with lent(LIKE[:200]) as smaller:
            assert smaller.shape == (200, 500)
            return there, smaller.data_ptr()

    there, again = in_a_thread(work)
    assert there[0] != there[1]
    assert again in there


def test_strides_and_dtype_are_those_asked_for() -> None:
    columns = torch.empty(400, 600, dtype=torch.float64).t()
    with lent(columns) as found:
        assert found.stride() == columns.stride()
        assert found.dtype == torch.float64
        found.fill_(1.5)
        assert found.sum() == 1.5 * columns.numel()


def test_a_crowd_of_small_ones_does_not_keep_a_large_one_out() -> None:
    def work() -> bool:
        leases = [Lease() for _ in range(9)]
        for lease in leases:
            lend(lease, torch.empty(1 << 16))
        large = Lease()
        first = lend(large, LIKE).data_ptr()
        leases.clear()
        del lease, large
        gc.collect()
        with lent(LIKE) as found:
            return found.data_ptr() == first

    assert in_a_thread(work)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64])
def test_large_tensors_are_like_any_other(dtype: torch.dtype) -> None:
    rows = LARGE_BYTES // 8
    found = empty_on_host((rows, 3), dtype)
    found.fill_(2)
    assert found.shape == (rows, 3)
    assert found.is_contiguous()
    assert bool((found == 2).all())


def test_without_memory_the_error_is_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        empty_on_host((1 << 50,), torch.float64)
    assert empty_on_host((LARGE_BYTES,), torch.uint8).shape == (LARGE_BYTES,)


def test_a_kernel_without_large_pages_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345)
    assert empty_on_host((LARGE_BYTES,), torch.uint8).shape == (LARGE_BYTES,)
