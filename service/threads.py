"""How many threads an evaluation computes with: as many as it has work and room for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import torch

from service.wire.payload import Payload, extent

# A batch of fewer logits is done before a second thread is awake.
FEW: Final = 1 << 18
# Of a batch that one thread computed for want of room, so much must be left for others to be woken.
TAIL: Final = 1 << 21


def find_room(threads: int, *, cores: int, admitted: int) -> bool:
    """Tell whether so many requests, with so many threads each, find a core for every thread.

    One that is alone has all that it may have.
    """
    return admitted == 1 or threads * admitted <= cores


def for_room(threads: int, *, has_room: Callable[[], bool]) -> int:
    """Return with how many threads to compute on what is there of a body, ``threads`` at most.

    Without room it is one: while the rest of the body arrives, sender and event loop need the other
    core, and so do those who send or compute other batches. Threads that wait for one that was sent
    away wait for milliseconds.
    """
    return threads if has_room() else 1


def paced(payload: Payload, *, threads: int, has_room: Callable[[], bool]) -> Payload:
    """Return a batch whose blocks are computed with a fitting number of threads.

    Args:
        payload: the batch.
        threads: most of them.
        has_room: whether all bytes are there, and nobody else needs the cores.
    """
    logits, crowded = payload.logits.numel(), not has_room()
    most = threads if logits >= FEW else 1
    rows_of_all, _ = extent(payload.logits.shape, payload.document.get("class_axis", 1))
    tail_rows = TAIL * rows_of_all // max(1, logits)

    def await_rows(rows: int) -> None:
        payload.await_rows(rows)
        few = crowded and rows_of_all - rows < tail_rows
        torch.set_num_threads(1 if few else for_room(most, has_room=has_room))

    return replace(payload, await_rows=await_rows)
