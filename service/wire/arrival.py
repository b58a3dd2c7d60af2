"""A body in one buffer, received on the event loop, readable by a worker while it still arrives."""

import math
import threading
from typing import Final

from service.wire.body import Incoming, Message
from service.wire.buffer import Buffer
from service.wire.payload import Body
from xentcore import Cancelled

# A worker that waits for bytes does nothing else: it is only asked to when the rest of a body is
# expected within this time, and sent away again when nothing comes for so long.
SOON_S: Final = 0.25
STALL_S: Final = 0.25
# A body of this size is received straight into the buffer; leaving the usual way takes as long as
# copying less. So much of it at a time, then whoever waits for it is told.
DIRECT_BYTES: Final = 1 << 20
SLICE_BYTES: Final = 1 << 21
MORE: Final[Message] = {"type": "http.request", "more_body": True}


class Stalled(Exception):
    """The bytes that a worker waits for do not come."""


class Arrival:
    """The buffer of a body that is being received.

    Args:
        incoming: the body.
        aligned: the place in the body from which on numbers are read in place.

    Attributes:
        is_complete: whether all bytes are in the buffer.
    """

    def __init__(self, incoming: Incoming, *, aligned: int = 0) -> None:
        self._incoming = incoming
        self._buffer = Buffer(limit=incoming.limit, expected=incoming.expected, aligned=aligned)
        self._direct = False
        self._news = threading.Condition()
        self._wanted = math.inf
        self.is_complete = False  # when the last bytes are in the buffer, not when they have come
        self._failed = False

    @property
    def size(self) -> int:
        """Bytes in the buffer."""
        return self._buffer.size

    def body(self) -> Body:
        """Return the memory of the whole body; its bytes are there once :meth:`wait` says so."""
        return self._buffer.body(self._incoming.expected)

    async def begin(self, *, early: bool) -> None:
        """Receive until the body is complete or, if ``early``, until the rest will soon be.

        Raises:
            TooLarge, Malformed, BodyTimeout, ClientDisconnected: as :meth:`receive` does.
        """
        while not self.is_complete:
            await self.receive()
            if early and self._expected_soon():
                return

    def _expected_soon(self) -> bool:
        expected, spent_s = self._incoming.expected, self._incoming.spent_s
        if expected is None or not self.size:
            return False
        return spent_s * (expected - self.size) <= SOON_S * self.size

    async def receive(self) -> Message:
        """Receive more of the body and keep its bytes, or what comes behind it.

        Raises:
            TooLarge, Malformed, BodyTimeout, ClientDisconnected: as :meth:`Incoming.receive` does.
        """
        if self.is_complete:
            return await self._incoming.receive()
        try:
            message = await self._more()
            self.is_complete = self._incoming.complete
        except BaseException:
            self._failed = True
            self._tell()
            raise
        self._tell()
        return message

    async def _more(self) -> Message:
        """Receive more of the body into the buffer: a message, or without one where that works."""
        incoming, buffer = self._incoming, self._buffer
        if self._direct:
            before = incoming.size
            await incoming.receive_into(buffer.room()[:SLICE_BYTES])
            buffer.advance(incoming.size - before)
            return MORE
        message = await incoming.receive()
        buffer.append(message.get("body", b""))
        if incoming.expected is not None and incoming.expected >= DIRECT_BYTES:
            since = incoming.go_direct()
            self._direct = since is not None
            buffer.append(since or b"")
        return message

    def end(self) -> None:
        """Receive no more of the body."""
        self._incoming.end()

    def _tell(self) -> None:
        if self.size >= self._wanted or self.is_complete or self._failed:
            with self._news:
                self._news.notify_all()

    def wait(self, size: int) -> None:
        """Return once the first ``size`` bytes are there. For worker threads.

        Raises:
            Cancelled: they will never be.
            Stalled: nothing came for a while.
        """
        if self.size >= size:
            return
        with self._news:
            self._wanted = size
            while self.size < size and not self.is_complete:
                if self._failed:
                    raise Cancelled("the body will not be complete")
                seen = self._incoming.progress
                if not self._news.wait(STALL_S) and self._incoming.progress == seen:
                    raise Stalled
