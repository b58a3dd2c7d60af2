"""How many threads an evaluation computes with: as many as it has work and room for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import torch

from service.wire.payload import Payload

# A batch of fewer logits is done before a second thread is awake.
FEW: Final = 1 << 18


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
    most = threads if payload.logits.numel() >= FEW else 1

    def await_rows(rows: int) -> None:
        payload.await_rows(rows)
        torch.set_num_threads(for_arriving(most, is_complete=is_complete))

    return replace(payload, await_rows=await_rows)
