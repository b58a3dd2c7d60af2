"""How many threads compute: one for small batches and without room, all of them otherwise."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from service.threads import FEW, TAIL, find_room, for_room, paced
from service.wire.payload import Payload

CLASSES = 512
ROWS = FEW // CLASSES
LARGE = Payload({}, torch.empty(ROWS, CLASSES), torch.empty(ROWS))
LARGER = Payload({}, torch.empty(TAIL // CLASSES + 9, CLASSES), torch.empty(TAIL // CLASSES + 9))


@pytest.fixture(autouse=True)
def _threads_as_they_were() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_large_batch_has_all_threads_once_it_is_there() -> None:
    there = False
    awaited: list[int] = []
    batch = paced(replace(LARGER, await_rows=awaited.append), threads=3, has_room=lambda: there)
    batch.await_rows(5)
    assert torch.get_num_threads() == 1
    there = True
    batch.await_rows(9)
    assert torch.get_num_threads() == 3
    assert awaited == [5, 9]


def test_one_thread_goes_on_with_the_last_rows_of_a_batch_that_it_computed_so_far() -> None:
    there = False
    batch = paced(LARGER, threads=3, has_room=lambda: there)
    there = True
    batch.await_rows(9)
    assert torch.get_num_threads() == 3
    batch.await_rows(10)
    assert torch.get_num_threads() == 1
    paced(LARGE, threads=3, has_room=lambda: True).await_rows(ROWS)
    assert torch.get_num_threads() == 3


def test_what_is_there_of_a_stream_has_one_until_all_of_it_is() -> None:
    assert for_room(3, has_room=lambda: False) == 1
    assert for_room(3, has_room=lambda: True) == 3


@pytest.mark.parametrize(
    ("threads", "cores", "most"), [(2, 2, 1), (2, 3, 1), (2, 16, 8), (1, 2, 2), (4, 2, 1)]
)
def test_there_is_room_where_each_thread_of_each_request_has_a_core(
    threads: int, cores: int, most: int
) -> None:
    assert [find_room(threads, cores=cores, admitted=each) for each in range(1, most + 2)] == [
        *[True] * most,
        False,
    ]


def test_a_small_batch_has_one() -> None:
    torch.set_num_threads(2)
    small = replace(LARGE, logits=LARGE.logits[:-1])
    paced(small, threads=3, has_room=lambda: True).await_rows(1)
    assert torch.get_num_threads() == 1
