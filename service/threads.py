"""How many threads an evaluation computes with: as many as it has work and room for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import torch

from service.wire.payload import Payload, extent

# A batch of fewer logits is done before a second thread is awake.
FEW: Final = 1 << 18
# Of a batch that one thread computed while it arrived, so much must be left for others to be woken.
TAIL: Final = 1 << 21


def for_arriving(threads: int, *, is_complete: Callable[[], bool]) -> int:
    """Return with how many threads to compute on what is there of a body, ``threads`` at most.

    While the rest arrives it is one: sender and event loop need the other core, and threads that
    wait for one that was sent away wait for milliseconds.
    """
    return threads if is_complete() else 1


def paced(payload: Payload, *, threads: int, is_complete: Callable[[], bool]) -> Payload:
    """Return a batch whose blocks are computed with a fitting number of threads.

    Args:
        payload: the batch.
        threads: most of them.
        is_complete: whether all bytes are there.
    """
    logits, arriving = payload.logits.numel(), not is_complete()
    most = threads if logits >= FEW else 1
    rows_of_all, _ = extent(payload.logits.shape, payload.document.get("class_axis", 1))
    tail_rows = TAIL * rows_of_all // max(1, logits)

    def await_rows(rows: int) -> None:
        payload.await_rows(rows)
        few = arriving and rows_of_all - rows < tail_rows
        torch.set_num_threads(1 if few else for_arriving(most, is_complete=is_complete))

    return replace(payload, await_rows=await_rows)
