"""A body on its way from the socket to the workers: received in pieces, worked off piece by piece.

The event loop fills a few buffers again and again. A worker is asked for when one is full, works
off what is there, and goes: nobody waits for a sender. A sender waits when all buffers are full.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Final, Generic, Protocol, TypeVar

from service.engine import Permit, Running, gone, too_late
from service.errors import Unavailable
from service.wire.body import Incoming
from service.wire.piece import Piece
from xentcore import Cancelled

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# One that is filled, one that is read, and one between them, so that neither waits for the other.
PIECES: Final = 3
ALIGNMENT: Final = 64  # a number that lies aligned in the body lies aligned in its piece


def _nothing() -> None:
    """Do nothing."""


class Reader(Protocol[T_co]):
    """What a worker does with a body. Called from one thread at a time."""

    def push(self, piece: Piece, cancelled: Callable[[], bool]) -> None:
        """Read the next piece."""
        ...

    def finish(self, cancelled: Callable[[], bool]) -> T_co:
        """Return what came of it all."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class Flow(Generic[T]):
    """Carries one body to its reader, which is closed in the end, whatever that is.

    Args:
        incoming: the body.
        reader: what reads it, on a worker.
        permit: the place in the queue.
        piece_bytes: how much is filled before a worker is asked for.
        deadline_s: how long workers may take, waiting for one included.
    """

    def __init__(
        self,
        incoming: Incoming,
        reader: Reader[T],
        *,
        permit: Permit,
        piece_bytes: int,
        deadline_s: float,
    ) -> None:
        self._incoming = incoming
        self._reader = reader
        self._permit = permit
        size = min(piece_bytes, incoming.expected or piece_bytes)
        self._piece_bytes = size + -size % ALIGNMENT
        self._deadline_s = deadline_s
        self._left_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[T] = self._loop.create_future()
        self._made = 0
        self._free: deque[Piece] = deque()
        self._freed = asyncio.Event()
        self._filled: deque[Piece] = deque()
        self._piece: Piece | None = None  # the one that is being filled
        self._complete = False
        self._begun = False
        self._step: Running[tuple[T] | None] | None = None
        self._clock = self._loop.call_later(0, _nothing)

    async def carry(self) -> T:
        """Return what the reader made of the body.

        Raises:
            ClientDisconnected: the client went away; the work is given up.
            Unavailable: the deadline of the work passed.
            Whatever :meth:`Incoming.receive` and the reader raise.
        """
        receiving = asyncio.ensure_future(self._receive())
        try:
            await asyncio.wait((receiving, self._outcome), return_when=asyncio.FIRST_COMPLETED)
            if not self._outcome.done():
                receiving.result()
            return self._outcome.result()
        finally:
            if receiving.done():
                receiving.exception()  # seen: nobody else will ask
            receiving.cancel()
            self._outcome.cancel()
            self._incoming.end()
            self._end()

    async def _receive(self) -> None:
        """Fill pieces until the body is complete, then watch for the client's leaving."""
        incoming = self._incoming
        await self._take((await incoming.receive()).get("body", b""))
        since = incoming.go_direct()
        if since is None:
            while not incoming.complete:
                await self._take((await incoming.receive()).get("body", b""))
        else:
            await self._take(since)
            while not incoming.complete:
                await self._take_direct()
        self._complete = True
        self._hand_over()
        await gone(incoming.receive)

    async def _take(self, body: bytes) -> None:
        data = memoryview(body)
        while data:
            piece = self._piece = self._piece or await self._empty_piece()
            data = data[piece.fill(data) :]
            if piece.full:
                self._hand_over()

    async def _take_direct(self) -> None:
        piece = self._piece = self._piece or await self._empty_piece()
        before = self._incoming.size
        await self._incoming.receive_into(piece.room())
        piece.advance(self._incoming.size - before)
        if piece.full:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._piece is not None:
            self._filled.append(self._piece)
        self._piece = None
        self._work()

    async def _empty_piece(self) -> Piece:
        """Return a piece to fill. Until a worker has read one, no more is received."""
        if not self._free and self._made < PIECES:
            self._made += 1
            return Piece(self._piece_bytes)
        since_s = time.perf_counter()
        while not self._free:
            self._freed.clear()
            await self._freed.wait()
        self._incoming.excuse(time.perf_counter() - since_s)
        return self._free.popleft()

    def _work(self) -> None:
        """Ask for a worker, if there is something to do and none does it."""
        if self._step is not None or self._outcome.done():
            return
        if not self._filled and not self._complete:
            return
        try:
            step = self._permit.submit(self._work_off, begun=self._begun)
        except Unavailable as error:
            self._outcome.set_exception(error)
            return
        self._step, self._begun = step, True
        asked_s = time.monotonic()
        self._clock = self._loop.call_later(self._left_s, self._too_late)

        def ended() -> None:
            self._left_s -= time.monotonic() - asked_s
            self._step_ended(step)

        step.on_end(lambda: self._tell(ended))

    def _work_off(self, cancelled: Callable[[], bool]) -> tuple[T] | None:
        """Read what is filled; return what came of it all, once it is all. On a worker."""
        complete = self._complete  # asked first: what is filled later than this comes later
        while self._filled:
            if cancelled():
                raise Cancelled("given up during the evaluation")
            piece = self._filled.popleft()
            self._reader.push(piece, cancelled)
            piece.empty()
            self._free.append(piece)
            self._tell(self._freed.set)
        return (self._reader.finish(cancelled),) if complete else None

    def _tell(self, call: Callable[[], object]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _step_ended(self, step: Running[tuple[T] | None]) -> None:
        self._step = None
        self._clock.cancel()
        if self._outcome.done():
            return
        try:
            found = step.value()
        except CancelledError:
            self._outcome.set_exception(Unavailable("the workers have stopped"))
        except Exception as error:  # noqa: BLE001  (whoever waits for it raises it)
            self._outcome.set_exception(error)
        else:
            if found is None:
                self._work()
            else:
                self._outcome.set_result(found[0])

    def _too_late(self) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(too_late(self._deadline_s))

    def _end(self) -> None:
        """Give up what runs, and close the reader as soon as nobody reads."""
        self._clock.cancel()
        if self._step is None:
            self._reader.close()
            return
        self._step.on_end(self._reader.close)
        self._step.give_up()
