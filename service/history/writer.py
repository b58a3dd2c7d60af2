"""The one thread that writes: whatever waits goes into one transaction, then all are answered.

A commit waits for the disk. While it does, others arrive and wait; they share the next one. So many
at once cost little more than one, and nobody is answered before what it wrote is durable. Where
more requests are on their way, a commit waits for them a moment: most of what it costs, the
processor's time too, it costs once. Who is alone waits for nobody.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from service.errors import HistoryUnavailable
from service.history.changes import Changes
from service.history.database import Database
from service.history.outages import RETRY_AFTER_S
from service.history.waiters import Failure, Waiter, still_waits, tell

T = TypeVar("T")
Work = Callable[[Changes], T]
Logger = structlog.typing.FilteringBoundLogger

TOGETHER: Final = 256  # requests in one transaction, at most
TOGETHER_BYTES: Final = 1 << 26
# How long a commit waits for others at most: as long as so many of the last one took.
PATIENCE: Final = 2
PATIENCE_S: Final = 0.02
STOPPING: Final = "the service is stopping, nothing more is recorded: try again, or elsewhere"


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Work that waits, and the identities of the batches that it will ask about."""

    work: Work[Any]
    batches: Collection[bytes]
    size_bytes: int
    waiter: Waiter


class Writer:
    """Runs work in transactions, in the order in which it came.

    Args:
        database: to write to.
        queue: how much work may wait.
        queue_bytes: how many bytes it may hold. One that holds more alone is taken nevertheless.
        log: told when the database stops and starts to answer.
        answering: returns how many requests are being answered, those that wait here among them.
        contradicted: called where the database holds other rows than were taken for granted.
    """

    def __init__(
        self,
        database: Database,
        *,
        queue: int,
        queue_bytes: int,
        log: Logger,
        answering: Callable[[], int] = lambda: 0,
        contradicted: Callable[[], object] = lambda: None,
    ) -> None:
        self._database = database
        self._queue = queue
        self._queue_bytes = queue_bytes
        self._log = log
        self._answering = answering
        self._contradicted = contradicted
        self._writing = 0
        self._awaits_company = False  # then it is woken once, not by everyone who comes
        self._commit_s = 0.0
        self._waiting: deque[Job] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._stopping = True
        self._migrated = False
        self._answers = True
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How much work waits."""
        return len(self._waiting)

    @property
    def opened(self) -> bool:
        """Whether the tables have been made, or found, since the start."""
        return self._migrated

    def start(self) -> None:
        """Make the tables, and begin to write.

        Where the database does not answer yet, the tables are made once it does.

        Raises:
            Exception: whatever no later attempt would mend.
        """
        try:
            self._migrate()
        except HistoryUnavailable as error:
            self._note_outage(error)
        self._stopping = False
        # A daemon: a process that is told to end at once does not wait for a database.
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more; return once all that waits is durable, or refused."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def submit(
        self, work: Work[T], *, batches: Collection[bytes] = (), size_bytes: int = 0
    ) -> "Future[T]":
        """Hand over work, from any thread; the result is there when it is durable.

        Args:
            work: to do.
            batches: identities of the batches that it will ask about.
            size_bytes: what it holds while it waits.

        Raises:
            HistoryUnavailable: too much waits, or nothing is taken any more.
        """
        future: Future[T] = Future()
        self._take(Job(work, batches, size_bytes, future))
        return future

    async def write(
        self,
        work: Work[T],
        *,
        deadline_s: float,
        batches: Collection[bytes] = (),
        size_bytes: int = 0,
    ) -> T:
        """Return what the work returns, once it is durable. Arguments as of :meth:`submit`.

        Raises:
            HistoryUnavailable: too much waits, nothing is taken any more, the database does not
                answer, or not in time. In the last two cases it may be durable nevertheless.
        """
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[T] = loop.create_future()
        deadline = loop.call_later(deadline_s, _give_up, waiting, deadline_s)
        self._writing += 1
        try:
            self._take(Job(work, batches, size_bytes, waiting))
            return await waiting
        finally:
            self._writing -= 1
            deadline.cancel()

    def _take(self, job: Job) -> None:
        with self._changed:
            self._check_room(job.size_bytes)
            self._waiting.append(job)
            self._waiting_bytes += job.size_bytes
            if not self._awaits_company or self._is_complete():
                self._changed.notify_all()

    def _check_room(self, size_bytes: int) -> None:
        if self._stopping:
            raise HistoryUnavailable(STOPPING, retry_after_s=RETRY_AFTER_S)
        full = len(self._waiting) >= self._queue
        if full or (self._waiting and self._waiting_bytes + size_bytes > self._queue_bytes):
            raise HistoryUnavailable(
                f"{len(self._waiting)} requests wait to be recorded: try again in 1 s",
                retry_after_s=1,
            )

    def _run(self) -> None:
        while (group := self._next()) is not None:
            if group or not self._migrated:
                self._commit(group)

    def _next(self) -> list[Job] | None:
        """Wait for work; return all that fits into one transaction, ``None`` when it has ended."""
        with self._changed:
            while not self._waiting and not self._stopping and self._migrated:
                self._changed.wait()
            if not self._waiting and not self._stopping:
                self._changed.wait(RETRY_AFTER_S)  # then the tables are tried again
            if not self._waiting and self._stopping:
                return None
            self._await_company()
            return self._taken()

    def _await_company(self) -> None:
        """Wait a moment for requests that are being answered and have nothing to write yet."""
        last_s = time.monotonic() + min(PATIENCE * self._commit_s, PATIENCE_S)
        self._awaits_company = True
        while not self._is_complete() and (left_s := last_s - time.monotonic()) > 0:
            self._changed.wait(left_s)
        self._awaits_company = False

    def _is_complete(self) -> bool:
        """Whether nobody is on the way, or there is no room for anybody."""
        full = len(self._waiting) >= min(TOGETHER, self._queue) or self._waiting_bytes >= min(
            TOGETHER_BYTES, self._queue_bytes
        )
        # Those whose work is durable, and who are not told yet, are counted on both sides.
        return full or self._stopping or self._answering() <= self._writing

    def _taken(self) -> list[Job]:
        taken: list[Job] = []
        size_bytes = 0
        while self._waiting and len(taken) < TOGETHER and size_bytes < TOGETHER_BYTES:
            job = self._waiting.popleft()
            size_bytes += job.size_bytes
            if still_waits(job.waiter):
                taken.append(job)
        self._waiting_bytes -= size_bytes
        return taken

    def _migrate(self) -> None:
        self._database.migrate()
        self._migrated = True

    def _commit(self, group: list[Job]) -> None:
        error = self._attempted(group)
        if error is None:
            return
        if len(group) == 1 or isinstance(error, HistoryUnavailable):
            tell((job.waiter, Failure(error)) for job in group)
            return
        # An error of the database's own: what is left of the transaction is anybody's guess, so
        # each goes into one of its own.
        for job in group:
            self._commit([job])

    def _attempted(self, group: list[Job]) -> Exception | None:
        started_s = time.monotonic()
        try:
            outcomes = self._outcomes(group)
        except HistoryUnavailable as error:
            self._note_outage(error)
            return error
        except Exception as error:  # noqa: BLE001  (whoever waits raises it)
            if isinstance(error, IntegrityError):
                self._contradicted()
            return error
        self._note_answer()
        self._commit_s = time.monotonic() - started_s
        tell(zip((job.waiter for job in group), outcomes, strict=True))
        return None

    def _outcomes(self, group: list[Job]) -> list[object]:
        if not self._migrated:
            self._migrate()
        try:
            return self._committed(group, _plainly)
        except (SQLAlchemyError, HistoryUnavailable):
            raise
        except Exception as error:  # noqa: BLE001  (whoever waits raises it)
            if len(group) == 1:
                return [Failure(error)]
        # One of them was refused: what the others write is kept apart from what it had written. It
        # takes longer than the writing does, and seldom has to be done.
        return self._committed(group, _apart)

    def _committed(
        self, group: list[Job], attempt: Callable[[Changes, Job], object]
    ) -> list[object]:
        with self._database.writing() as connection:
            changes = Changes(connection, chain.from_iterable(job.batches for job in group))
            outcomes = [attempt(changes, job) for job in group]
            changes.finish()
        changes.committed()
        return outcomes

    def _note_answer(self) -> None:
        if not self._answers:
            self._log.info("history available")
            self._answers = True

    def _note_outage(self, error: HistoryUnavailable) -> None:
        if self._answers:
            reason = getattr(error.__cause__, "orig", error.__cause__)
            self._log.error("history unavailable", reason=str(reason))
            self._answers = False


def _give_up(waiting: "asyncio.Future[Any]", deadline_s: float) -> None:
    if not waiting.done():
        waiting.set_exception(
            HistoryUnavailable(
                f"nothing could be recorded within {deadline_s:g} s: send it again; what was "
                "recorded nevertheless is not counted twice",
                retry_after_s=RETRY_AFTER_S,
            )
        )


def _plainly(changes: Changes, job: Job) -> object:
    return job.work(changes)


def _apart(changes: Changes, job: Job) -> object:
    try:
        with changes.savepoint() as part:
            return job.work(part)
    except SQLAlchemyError:
        raise
    except Exception as error:  # noqa: BLE001  (whoever waits raises it)
        return Failure(error)
