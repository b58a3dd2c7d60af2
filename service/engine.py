"""Admission, worker threads, deadlines, cancellation: how much work there is, and where it runs.

A request is admitted before its body is read, so that what waits is bounded in memory too. A permit
is held until the work has really ended: a worker that was given up on still occupies its place.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Generic, Literal, NoReturn, Self, TypeVar

from service.errors import ClientDisconnected, QueueFull, ServiceError, Unavailable
from service.wire.arrival import Stalled
from service.wire.body import Receive
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


@dataclass(frozen=True, slots=True)
class Waiting:
    """Work that no worker has taken up."""

    job: Job
    work: Work[Any]
    future: "Future[Any]"

    def run(self) -> None:
        """Do it, unless it was given up."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(_run(self.job, self.work))
        except BaseException as error:  # noqa: BLE001  (whoever waits for it raises it)
            self.future.set_exception(error)


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
        self._waiting: tuple[deque[Waiting], deque[Waiting]] = (deque(), deque())  # begun, new
        self._duration_s = 0.0
        self.state: State = "starting"
        self.admitted = 0

    async def start(self) -> None:
        """Start the workers and warm them up; work is refused until then."""
        self._pool = ThreadPoolExecutor(self._capacity.workers, "evaluation")
        try:
            await self.beside(self._warm_up)
        except Exception:
            self.state = "failed"
            raise
        if self.state == "starting":
            self.state = "ready"

    async def beside(self, call: Callable[[], object]) -> None:
        """Call something on a worker, between two evaluations.

        Not on another thread: one that has computed keeps helpers of its own, and where there are
        more of them than processors, they sleep when they should wait.
        """
        if self._pool is None:
            raise Unavailable("the workers have not started")
        await asyncio.wrap_future(self._pool.submit(call))

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
        for waiting in self._waiting:
            while waiting:
                waiting.popleft().future.cancel()

    @property
    def busy(self) -> int:
        """Workers that compute right now."""
        return sum(job.started_s is not None for job in self._jobs)

    @property
    def idle(self) -> bool:
        """Whether workers have nothing to do, and nothing waits for one."""
        return not self._jobs

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

    def release(self, spent_s: float | None) -> None:
        """Give one place back, saying how long its work took, if there was any."""
        self.admitted -= 1
        if spent_s is not None:
            self._duration_s += SMOOTHING * (spent_s - self._duration_s)

    def submit(
        self, work: Work[T], on_end: Callable[[float | None], None], *, begun: bool = False
    ) -> "Running[T]":
        """Hand work to the pool.

        Args:
            work: what to do.
            on_end: called on the event loop once no worker has it, with the seconds that it took;
                ``None`` where it was never taken up.
            begun: it goes on with what a worker did before, and precedes all that does not: what is
                half done holds memory, and the longer the more of it is half done.

        Raises:
            Unavailable: the workers have stopped.
        """
        if self._pool is None:
            raise Unavailable("the workers have not started")
        job = Job()
        future: Future[T | Failure] = Future()
        loop = asyncio.get_running_loop()
        self._waiting[not begun].append(Waiting(job, work, future))
        try:
            self._pool.submit(self._run_next)
        except RuntimeError:
            future.cancel()
            raise Unavailable("the workers have stopped") from None
        self._jobs.add(job)

        def ended() -> None:
            self._jobs.discard(job)
            on_end(None if job.started_s is None else time.monotonic() - job.started_s)

        def tell(_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended)

        future.add_done_callback(tell)
        return Running(job, future, self._capacity.deadline_s)

    def _run_next(self) -> None:
        """Take up what waits longest; called on a worker once for everything that was submitted."""
        for waiting in self._waiting:
            with suppress(IndexError):  # taken by another worker, or given up at a stop
                found = waiting.popleft()
                break
        else:
            return
        found.run()

    def _retry_after_s(self) -> int:
        """Return when a place should be free: the mean duration times the rounds before it."""
        rounds = self.admitted / self._capacity.workers
        return min(max(1, math.ceil(self._duration_s * rounds)), RETRY_AFTER_MAX_S)


class Permit:
    """A place in the queue, given back when its block ends, or its work if that ends later."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._uses = 1  # the block itself, and every piece of work that a worker still has
        self._spent_s: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_use(None)

    @property
    def is_alone(self) -> bool:
        """Whether no worker has, or is to have, anything to do."""
        return self._engine.idle

    def run_here(self, work: Work[T]) -> T:
        """Return what brief ``work`` returns, at once, on the event loop. Raises what it does."""
        job = Job()
        try:
            return _value(_run(job, work))
        finally:
            self._spent_s = time.monotonic() - (job.started_s or 0.0)

    def _end_use(self, spent_s: float | None) -> None:
        if spent_s is not None:
            self._spent_s = spent_s + (self._spent_s or 0.0)
        self._uses -= 1
        if not self._uses:
            self._engine.release(self._spent_s)

    async def run(self, work: Work[T], *, receive: Receive, begun: bool = False) -> T:
        """Return what ``work``, or the next step of what has ``begun``, returns from a worker.

        Raises:
            ClientDisconnected: the client went away meanwhile; the work is given up.
            Unavailable: the deadline passed; the work is given up.
        """
        return await self.submit(work, begun=begun).result(receive)

    def submit(self, work: Work[T], *, begun: bool = False) -> "Running[T]":
        """Hand work, or the next step of what has ``begun``, to the pool.

        Raises:
            Unavailable: the workers have stopped.
        """
        running = self._engine.submit(work, self._end_use, begun=begun)
        self._uses += 1
        return running


class Running(Generic[T]):
    """Work in the pool."""

    def __init__(self, job: Job, future: "Future[T | Failure]", deadline_s: float) -> None:
        self._job = job
        self._future = future
        self.deadline_s = deadline_s

    async def result(self, receive: Receive) -> T:
        """Wait for the result, the deadline or the client's leaving, whichever comes first.

        Raises:
            ClientDisconnected: the client went away.
            Unavailable: the deadline passed.
        """
        outcome = asyncio.wrap_future(self._future)
        leaving = asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait(
                (outcome, leaving), timeout=self.deadline_s, return_when=asyncio.FIRST_COMPLETED
            )
            if outcome.done():
                return _value(outcome.result())
            if leaving.done():
                leaving.result()  # a body that was still arriving may have failed in its own way
            raise too_late(self.deadline_s)
        finally:
            if leaving.done():
                leaving.exception()  # seen: nobody else will ask
            leaving.cancel()
            outcome.cancel()
            self.give_up()
            await asyncio.wait((leaving,))  # it may be receiving: whoever does so next comes after

    def value(self) -> T:
        """Return what came of work that has ended. Raises whatever it did."""
        return _value(self._future.result(0))

    def give_up(self) -> None:
        """Ask for an end; no effect on work that has ended."""
        self._job.cancelled.set()
        self._future.cancel()

    def on_end(self, call: Callable[[], object]) -> None:
        """Call back when no worker has the work any more; from any thread."""
        self._future.add_done_callback(lambda _: call())


def too_late(deadline_s: float) -> Unavailable:
    """Return the error of an evaluation that took too long."""
    return Unavailable(f"the evaluation did not end within {deadline_s:g} s")


def _value(outcome: "T | Failure") -> T:
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome


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


async def gone(receive: Receive) -> NoReturn:
    """Wait for the client to go. What comes before that are the last bytes of its body.

    Raises:
        ClientDisconnected: it has gone.
    """
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnected("the client went away during the evaluation")
