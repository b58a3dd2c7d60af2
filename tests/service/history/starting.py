"""Recorders that are started and stopped again."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import structlog

from service.history.changes import Changes
from service.history.database import Database
from service.history.entries import Entry, Outcome
from service.history.recorder import Recorder, RecorderLimits
from service.history.times import HOUR
from service.history.writer import Logger
from tests.service.harness import PATIENCE_S
from tests.service.history.samples import NOON

Lines = list[MutableMapping[str, Any]]
LIMITS = RecorderLimits(pending_bytes=1000)


def logger(lines: Lines) -> Logger:
    """Return a logger that keeps what it is told."""

    def keep(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        lines.append(line)
        raise structlog.DropEvent

    level = structlog.processors.add_log_level
    bound: Logger = structlog.wrap_logger(
        None, processors=[level, keep], wrapper_class=structlog.make_filtering_bound_logger(0)
    )
    return bound


@asynccontextmanager
async def recording(
    database: Database,
    limits: RecorderLimits = LIMITS,
    *,
    now: int = NOON + HOUR,
    lines: Lines | None = None,
    answering: Callable[[], int] = lambda: 0,
) -> AsyncIterator[Recorder]:
    """Run a recorder whose clock stands still."""
    log = logger([] if lines is None else lines)
    recorder = Recorder(database, limits, log=log, clock=lambda: now, answering=answering)
    await recorder.start()
    yield recorder
    await recorder.stop()


def submit(recorder: Recorder, entries: Sequence[Entry]) -> "Future[list[Outcome]]":
    """Hand over batches from any thread, without a deadline; in the order of the calls."""
    work, size_bytes = recorder._recording(entries)
    asked = [entry.identity for entry in entries]
    return recorder._writer.submit(work, batches=asked, size_bytes=size_bytes)


@contextmanager
def blocked(recorder: Recorder) -> Iterator[None]:
    """Keep the writer busy: what is handed over in the block waits for its end."""
    begun, end = threading.Event(), threading.Event()

    def wait(_: Changes) -> None:
        begun.set()
        end.wait(timeout=PATIENCE_S)

    done = recorder._writer.submit(wait)
    begun.wait(timeout=PATIENCE_S)
    try:
        yield
    finally:
        end.set()
        done.result(timeout=PATIENCE_S)
