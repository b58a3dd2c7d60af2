"""In the background: logits that waited too long for labels go, and what is too old."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from service.errors import HistoryUnavailable
from service.history import times
from service.history.database import Database
from service.history.pending import purge
from service.history.recorder import Recorder
from service.history.retention import oldest_kept, remove_notes, remove_some, stale
from service.history.writer import Logger, Work

INTERVAL_S: Final = 300.0


class Sweeper:
    """Removes what need not be kept, by the recorder's own thread, between two recordings.

    Args:
        database: to read from.
        recorder: to write with.
        days: batches are removed when they are older; 0 keeps all.
        log: told what failed.
        interval_s: pause between two rounds.
        clock: the time, microseconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        recorder: Recorder,
        *,
        days: int,
        log: Logger,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], int] = times.now,
    ) -> None:
        self._database = database
        self._recorder = recorder
        self._days = days
        self._log = log
        self._interval_s = interval_s
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; before the recorder does."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def sweep(self) -> None:
        """Remove all that need not be kept now.

        Raises:
            HistoryUnavailable: the database does not answer.
        """
        now = self._clock()
        await self._until_nothing(partial(purge, now=now))
        oldest = oldest_kept(now, self._days)
        if oldest is None:
            return
        await self._until_nothing(partial(remove_notes, oldest=oldest))
        for project_id, series_id in await asyncio.to_thread(self._stale, oldest):
            await self._until_nothing(
                partial(remove_some, project_id=project_id, series_id=series_id, oldest=oldest)
            )

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
            except HistoryUnavailable:
                pass  # the recorder has said so
            except Exception:  # noqa: BLE001  (the next round may do better)
                self._log.exception("sweep failed")
            await asyncio.sleep(self._interval_s)

    async def _until_nothing(self, work: Work[int]) -> None:
        while await self._recorder.write(work):
            pass

    def _stale(self, oldest: int) -> list[tuple[int, int]]:
        with self._database.reading() as connection:
            return stale(connection, oldest)
