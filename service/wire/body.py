"""The request body: received on the event loop into one buffer, readable while it still arrives."""

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from service.errors import BodyTimeout, ClientDisconnected, Malformed, TooLarge
from service.wire.buffer import Buffer
from service.wire.payload import Body
from xentcore import Cancelled

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
CONTENT_LENGTH: Final = "content-length"

# A worker that waits for bytes does nothing else: it is only asked to when the rest of a body is
# expected within this time, and sent away again when nothing comes for so long.
SOON_S: Final = 0.25
STALL_S: Final = 0.25


class Stalled(Exception):
    """The bytes that a worker waits for do not come."""


class Arrival:
    """A body that is being received.

    Args:
        receive: the ASGI callable.
        headers: of the request.
        limit: bytes that are taken.
        deadline_s: seconds for the whole body.

    Raises:
        TooLarge: more than ``limit`` bytes by the headers.
        Malformed: a content length that is no number.
    """

    def __init__(
        self, receive: Receive, headers: Mapping[str, str], *, limit: int, deadline_s: float
    ) -> None:
        self._receive = receive
        self._expected = _declared(headers, limit)
        self._buffer = Buffer(limit=limit, expected=self._expected)
        self._deadline_s = deadline_s
        self._started_s = time.perf_counter()
        self._news = threading.Condition()
        self._wanted = math.inf
        self._failed = False
        self.complete = False
        self.duration_s = 0.0

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return self._buffer.size

    def body(self) -> Body:
        """Return the memory of the whole body; its bytes are there once :meth:`wait` says so."""
        return self._buffer.body(self._expected)

    async def begin(self, *, early: bool) -> None:
        """Receive until the body is complete or, if ``early``, until the rest will soon be.

        Raises:
            TooLarge, Malformed, BodyTimeout, ClientDisconnected: as :meth:`receive` does.
        """
        while not self.complete:
            await self.receive()
            if early and self._expected_soon():
                return

    def _expected_soon(self) -> bool:
        if self._expected is None or not self.size:
            return False
        spent_s = time.perf_counter() - self._started_s
        return spent_s * (self._expected - self.size) <= SOON_S * self.size

    async def receive(self) -> Message:
        """Receive one message and keep its bytes.

        Raises:
            TooLarge: more bytes than are taken.
            Malformed: not as many bytes as the headers said.
            BodyTimeout: the deadline passed.
            ClientDisconnected: the client went away before the end.
        """
        if self.complete:
            return await self._receive()
        try:
            message = await self._next()
        except BaseException:
            self._failed = True
            self._tell()
            raise
        self._tell()
        return message

    async def _next(self) -> Message:
        # One deadline for all of it: trickling gains nothing.
        left_s = self._started_s + self._deadline_s - time.perf_counter()
        try:
            async with asyncio.timeout(left_s):
                message = await self._receive()
        except TimeoutError:
            raise BodyTimeout(f"the body was not complete within {self._deadline_s:g} s") from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnected("the client went away while sending its body")
        self._buffer.append(message.get("body", b""))
        if not message.get("more_body", False):
            if self._expected not in (None, self.size):
                raise Malformed(
                    f"the body has {self.size} bytes, its headers said {self._expected}"
                )
            self.complete = True
            self.duration_s = time.perf_counter() - self._started_s
        return message

    def _tell(self) -> None:
        if self.size >= self._wanted or self.complete or self._failed:
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
            while self.size < size and not self.complete:
                if self._failed:
                    raise Cancelled("the body will not be complete")
                seen = self.size
                if not self._news.wait(STALL_S) and self.size == seen:
                    raise Stalled


def _declared(headers: Mapping[str, str], limit: int) -> int | None:
    """Return the length that the headers declare, if any."""
    declared = headers.get(CONTENT_LENGTH)
    if declared is None:
        return None
    if not (declared.isascii() and declared.isdigit()) or len(declared) > len(str(2**64)):
        raise Malformed("content-length is no number of bytes")
    if int(declared) > limit:
        raise TooLarge(f"the body has {declared} bytes, the limit is {limit}")
    return int(declared)
