"""Who waits for what another thread does: a thread, or a task on an event loop.

An event loop is woken once for all who wait on it: a wake is a system call, and makes two threads
contend for the interpreter.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

Waiter = Future[Any] | asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """The error of one job. What it had written is undone."""

    error: Exception


Told = tuple[Waiter, object]  # and what it is told: a result, or a Failure


def still_waits(waiter: Waiter) -> bool:
    """Tell whether somebody waits. If so, a thread can no longer give up; a task can."""
    if isinstance(waiter, Future):
        return waiter.set_running_or_notify_cancel()
    return not waiter.done()


def tell(told: Iterable[Told]) -> None:
    """Tell each what it waits for, from any thread. A task that gave up is not told."""
    loops: dict[asyncio.AbstractEventLoop, list[Told]] = defaultdict(list)
    for waiter, outcome in told:
        if isinstance(waiter, Future):
            _settle(waiter, outcome)
        else:
            loops[waiter.get_loop()].append((waiter, outcome))
    for loop, all_on_it in loops.items():
        with suppress(RuntimeError):  # it is closed: nobody waits on it any more
            loop.call_soon_threadsafe(_tell_here, all_on_it)


def _tell_here(told: Sequence[Told]) -> None:
    for waiter, outcome in told:
        if not waiter.done():
            _settle(waiter, outcome)


def _settle(waiter: Waiter, outcome: object) -> None:
    if isinstance(outcome, Failure):
        waiter.set_exception(outcome.error)
    else:
        waiter.set_result(outcome)
