"""What the service says to the history: record this, correct that."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from service.errors import TooLarge, invalid
from service.history import batches, pending, times
from service.history.catalogue import Catalogue
from service.history.changes import Changes
from service.history.database import Database
from service.history.entries import Corrected, Correction, Entry, KeptBatch, Outcome
from service.history.pending import BatchName
from service.history.retention import oldest_kept
from service.history.sums import ARRAYS, Sums
from service.history.writer import Logger, Work, Writer

T = TypeVar("T")
NUL: Final = "\0"


@dataclass(frozen=True, slots=True)
class RecorderLimits:
    """How much is kept and kept waiting. See the settings of the same names."""

    queue: int = 1024
    queue_bytes: int = 1 << 28
    deadline_s: float = 30.0
    pending_bytes: int = 1 << 26
    retention_days: int = 400


class Recorder:
    """Writes what was evaluated. What it has answered is durable.

    Args:
        database: to write to.
        limits: how much is taken.
        log: told when the database stops and starts to answer.
        clock: the time, microseconds since 1970.
        answering: returns how many requests are being answered: the :class:`Writer` may wait for
            them.
    """

    def __init__(
        self,
        database: Database,
        limits: RecorderLimits,
        *,
        log: Logger,
        clock: Callable[[], int] = times.now,
        answering: Callable[[], int] = lambda: 0,
    ) -> None:
        self._database = database
        self._limits = limits
        self._clock = clock
        self._catalogue = Catalogue()
        self._writer = Writer(
            database,
            queue=limits.queue,
            queue_bytes=limits.queue_bytes,
            log=log,
            answering=answering,
            contradicted=self._catalogue.forget,
        )

    @property
    def waiting(self) -> int:
        """Requests that wait to be written."""
        return self._writer.waiting

    @property
    def opened(self) -> bool:
        """Whether the tables have been made, or found, since the start."""
        return self._writer.opened

    async def start(self) -> None:
        """Make the tables, and begin to write. A database that does not answer is waited for.

        Raises:
            Exception: whatever no later attempt would mend.
        """
        await asyncio.to_thread(self._writer.start)

    async def stop(self) -> None:
        """Take no more; return once all that waits is durable, or refused."""
        await asyncio.to_thread(self._writer.stop)

    async def record(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Store batches, all or none; return what became of each, once that is durable.

        Raises:
            BatchConflict: another batch of that name is stored.
            UnknownSchema: a label schema was never declared.
            SchemaMismatch: a label schema has another number of classes than its batch.
            SumsOverflow: a sum is not finite.
            TooOld: an event time lies before what is kept.
            TooLarge: a body is larger than what is kept for late labels.
            InvalidDocument: a text holds what cannot be stored.
            HistoryUnavailable: nothing can be recorded now.
        """
        work, size_bytes = self._recording(entries)
        asked = [entry.identity for entry in entries]
        return await self.write(work, batches=asked, size_bytes=size_bytes)

    async def write(
        self, work: Work[T], *, batches: Collection[bytes] = (), size_bytes: int = 0
    ) -> T:
        """Run other work among what is recorded; return what it returns, once it is durable.

        Args:
            work: to do.
            batches: identities of the batches that it will ask about.
            size_bytes: what it holds while it waits.

        Raises:
            HistoryUnavailable: nothing can be written now.
        """
        return await self._writer.write(
            work, deadline_s=self._limits.deadline_s, batches=batches, size_bytes=size_bytes
        )

    async def kept(
        self,
        project: str,
        model: str,
        model_version: str,
        batch_id: str,
        variant: str | None = None,
    ) -> list[KeptBatch]:
        """Return the batches of a name whose logits are kept, ascending by variant.

        Raises:
            UnknownBatch: there is none of that name.
            LabelsTooLate: there are, but of none of them logits are kept.
            HistoryUnavailable: the database does not answer.
        """
        name = BatchName(project, model, model_version, batch_id, variant)

        def read() -> list[KeptBatch]:
            with self._database.reading() as connection:
                return pending.kept(connection, name, now=self._clock())

        return await asyncio.to_thread(read)

    async def correct(self, corrections: Sequence[Correction]) -> list[Corrected]:
        """Replace the sums of batches, all or none.

        Raises:
            LabelsTooLate: the logits of one are not kept, or no longer.
            Outdated: one was corrected since it was read.
            SumsOverflow: a sum is not finite.
            HistoryUnavailable: nothing can be recorded now.
        """
        now = self._clock()

        def work(changes: Changes) -> list[Corrected]:
            return [pending.correct(changes, each, now=now) for each in corrections]

        size_bytes = sum(_sums_bytes(each.sums) + len(each.labels) for each in corrections)
        return await self.write(work, size_bytes=size_bytes)

    def _recording(self, entries: Sequence[Entry]) -> tuple[Work[list[Outcome]], int]:
        for entry in entries:
            self._check(entry)
        now = self._clock()
        oldest = oldest_kept(now, self._limits.retention_days)

        def work(changes: Changes) -> list[Outcome]:
            return [
                batches.record(changes, self._catalogue, entry, now=now, oldest=oldest)
                for entry in entries
            ]

        return work, sum(map(_size_bytes, entries))

    def _check(self, entry: Entry) -> None:
        key = entry.key
        # As one text: classes are many, and it is found or missed in one pass.
        if NUL in "".join((entry.batch_id, *key.tags.values(), *(key.label_schema.classes or ()))):
            raise invalid("/track", "a text holds the character NUL, which cannot be stored")
        most = self._limits.pending_bytes
        if entry.kept is not None and len(entry.kept.body) > most:
            raise TooLarge(
                f"this body holds {len(entry.kept.body)} bytes; at most {most} are kept until "
                "their labels come: send smaller batches, or the labels with them"
            )


def _sums_bytes(sums: Sums) -> int:
    return sum(getattr(sums, name).nbytes for name in ARRAYS)


def _size_bytes(entry: Entry) -> int:
    return _sums_bytes(entry.sums) + (0 if entry.kept is None else len(entry.kept.body))
