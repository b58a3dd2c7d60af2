"""Admission, worker threads, deadlines, cancellation: how much work there is, and where it runs.

A request is admitted before its body is read, so that what waits is bounded in memory too. A permit
is held until the work has really ended: a worker that was given up on still occupies its place.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Generic, Literal, Self, TypeVar

from service.errors import ClientDisconnected, QueueFull, ServiceError, Unavailable
from service.wire.body import Receive, Stalled
from xentcore import XentError

T = TypeVar("T")
Work = Callable[[Callable[[], bool]], T]
State = Literal["starting", "ready", "draining", "failed"]

RETRY_AFTER_MAX_S: Final = 600
OUT_OF_MEMORY: Final = "can't allocate memory"  # how PyTorch says so on the CPU
SMOOTHING: Final = 0.1  # share of the newest duration in the running mean


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much is done and kept waiting. See the settings of the same names."""

    workers: int
    queue: int
    deadline_s: float
    grace_s: float


@dataclass(slots=True, eq=False)
class Job:
    """One piece of work; ``started_s`` is set when a worker takes it up (monotonic clock)."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    started_s: float | None = None


class Engine:
    """Runs work on a bounded pool of threads. Lives on one event loop.

    Args:
        capacity: how much is taken.
        warm_up: called once on a worker before the first request is taken.
    """

    def __init__(self, capacity: Capacity, *, warm_up: Callable[[], object]) -> None:
        self._capacity = capacity
        self._warm_up = warm_up
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: set[Job] = set()
        self._duration_s = 0.0
        self.state: State = "starting"
        self.admitted = 0

    async def start(self) -> None:
        """Start the workers and warm them up; work is refused until then."""
        self._pool = ThreadPoolExecutor(self._capacity.workers, "evaluation")
        try:
            await asyncio.wrap_future(self._pool.submit(self._warm_up))
        except Exception:
            self.state = "failed"
            raise
        if self.state == "starting":
            self.state = "ready"

    def drain(self) -> None:
        """Take no new work; what was admitted goes on."""
        self.state = "draining"

    def stop(self) -> None:
        """Give up on whatever still runs."""
        self.drain()
        for job in self._jobs:
            job.cancelled.set()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def busy(self) -> int:
        """Workers that compute right now."""
        return sum(job.started_s is not None for job in self._jobs)

    @property
    def dead(self) -> int:
        """Workers that run on long past the deadline of what they do."""
        last_s = time.monotonic() - self._capacity.deadline_s - self._capacity.grace_s
        return sum(job.started_s is not None and job.started_s < last_s for job in self._jobs)

    @property
    def waiting(self) -> int:
        """Admitted requests that no worker has taken up."""
        return self.admitted - self.busy

    def refusal(self) -> str | None:
        """Return why the service is not ready, if it is not."""
        if self.state != "ready":
            return f"the service is {self.state}"
        if self.dead:
            return f"{self.dead} of {self._capacity.workers} workers do not come back"
        return None

    def admit(self) -> "Permit":
        """Return a place in the queue.

        Raises:
            Unavailable: starting, draining or failed.
            QueueFull: every place is taken.
        """
        if self.state != "ready":
            raise Unavailable(f"the service is {self.state}: try again, or elsewhere")
        if self.admitted >= self._capacity.workers + self._capacity.queue:
            retry_after_s = self._retry_after_s()
            raise QueueFull(
                f"{self.admitted} evaluations are running or waiting: "
                f"try again in {retry_after_s} s",
                retry_after_s=retry_after_s,
            )
        self.admitted += 1
        return Permit(self)

    def release(self) -> None:
        """Give one place back."""
        self.admitted -= 1

    def submit(self, work: Work[T], on_end: Callable[[], None]) -> "Running[T]":
        """Hand work to the pool; ``on_end`` is called on the event loop once no worker has it.

        Raises:
            Unavailable: the workers have stopped.
        """
        if self._pool is None:
            raise Unavailable("the workers have not started")
        job = Job()
        loop = asyncio.get_running_loop()
        try:
            future = self._pool.submit(_run, job, work)
        except RuntimeError:
            raise Unavailable("the workers have stopped") from None
        self._jobs.add(job)

        def ended() -> None:
            self._jobs.discard(job)
            if job.started_s is not None:
                spent_s = time.monotonic() - job.started_s
                self._duration_s += SMOOTHING * (spent_s - self._duration_s)
            on_end()

        def tell(_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended)

        future.add_done_callback(tell)
        return Running(job, future, self._capacity.deadline_s)

    def _retry_after_s(self) -> int:
        """Return when a place should be free: the mean duration times the rounds before it."""
        rounds = self.admitted / self._capacity.workers
        return min(max(1, math.ceil(self._duration_s * rounds)), RETRY_AFTER_MAX_S)


class Permit:
    """A place in the queue, given back when its block ends, or its work if that ends later."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._uses = 1  # the block itself, and every piece of work that a worker still has

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_use()

    def _end_use(self) -> None:
        self._uses -= 1
        if not self._uses:
            self._engine.release()

    async def run(self, work: Work[T], *, receive: Receive) -> T:
        """Return what ``work`` returns, from a worker thread.

        Raises:
            ClientDisconnected: the client went away meanwhile; the work is given up.
            Unavailable: the deadline passed; the work is given up.
        """
        running = self._engine.submit(work, self._end_use)
        self._uses += 1
        return await running.result(receive)


class Running(Generic[T]):
    """Work in the pool."""

    def __init__(self, job: Job, future: "Future[T | Failure]", deadline_s: float) -> None:
        self._job = job
        self._future = future
        self._deadline_s = deadline_s

    async def result(self, receive: Receive) -> T:
        """Wait for the result, the deadline or the client's leaving, whichever comes first.

        Raises:
            ClientDisconnected: the client went away.
            Unavailable: the deadline passed.
        """
        outcome = asyncio.wrap_future(self._future)
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait(
                (outcome, gone), timeout=self._deadline_s, return_when=asyncio.FIRST_COMPLETED
            )
            if outcome.done():
                value = outcome.result()
                if isinstance(value, Failure):
                    raise value.error
                return value
            if gone.done():
                gone.result()  # a body that was still arriving may have failed in its own way
                raise ClientDisconnected("the client went away during the evaluation")
            raise Unavailable(f"the evaluation did not end within {self._deadline_s:g} s")
        finally:
            gone.cancel()
            self._job.cancelled.set()  # no effect on work that has ended
            outcome.cancel()


@dataclass(frozen=True, slots=True)
class Failure:
    """An expected error, without the frames that would keep a whole request in memory."""

    error: Exception


def _run(job: Job, work: Work[T]) -> "T | Failure":
    job.started_s = time.monotonic()
    try:
        return work(job.cancelled.is_set)
    except (ServiceError, XentError, MemoryError, Stalled) as error:
        error.__context__ = None
        return Failure(error.with_traceback(None))
    except RuntimeError as error:
        if OUT_OF_MEMORY not in str(error):
            raise
        return Failure(MemoryError())


async def _gone(receive: Receive) -> None:
    """Return when the client has gone. What comes before that are the last bytes of its body."""
    gone = False
    while not gone:
        message = await receive()
        gone = message["type"] == "http.disconnect"
