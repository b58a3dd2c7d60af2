"""The request body as it comes: held to its limit, its deadline and what the headers said."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, Protocol, TypeVar

from service.errors import BodyTimeout, ClientDisconnected, Malformed, TooLarge

T = TypeVar("T")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
CONTENT_LENGTH: Final = "content-length"


class Direct(Protocol):
    """A way around messages for the rest of a body of known length; see :mod:`service.direct`."""

    @property
    def filled(self) -> int:
        """Bytes of the room last given that have been filled."""
        ...

    def begin(self, received: int) -> bytes:
        """Begin after ``received`` bytes; return those that came since."""

    async def receive_into(self, room: memoryview) -> int:
        """Fill ``room``, or as much of it as the body still has; less if the client goes away.

        What a call had received when it was cancelled is counted by the next, which must be given
        the same memory.
        """

    def end(self) -> None:
        """Go back to messages, whatever was received."""


class Incoming:
    """A body that is being received.

    Args:
        receive: the ASGI callable.
        headers: of the request.
        limit: bytes that are taken.
        deadline_s: seconds for the whole body.
        direct: the way around messages, where there is one.

    Attributes:
        expected: bytes that the headers declare; ``None`` where they do not say.
        size: bytes received so far.
        complete: whether that is all of them.
        duration_s: how long it took to receive them; 0 until then.

    Raises:
        TooLarge: more than ``limit`` bytes by the headers.
        Malformed: a content length that is no number.
    """

    def __init__(
        self,
        receive: Receive,
        headers: Mapping[str, str],
        *,
        limit: int,
        deadline_s: float,
        direct: Direct | None = None,
    ) -> None:
        self._receive = receive
        self._direct = direct
        self.limit = limit
        self.expected = _declared(headers, limit)
        self._deadline_s = deadline_s
        self._started_s = time.perf_counter()
        self.size = 0
        self.complete = False
        self.duration_s = 0.0

    @property
    def spent_s(self) -> float:
        """Seconds that the sender took so far."""
        return time.perf_counter() - self._started_s

    def excuse(self, duration_s: float) -> None:
        """Take away seconds in which the sender was kept waiting."""
        self._started_s += duration_s

    async def receive(self) -> Message:
        """Receive one message: more of the body, or what comes behind it.

        Raises:
            TooLarge: more bytes than are taken.
            Malformed: not as many bytes as the headers said.
            BodyTimeout: the deadline passed.
            ClientDisconnected: the client went away before the end.
        """
        if self.complete:
            return await self._receive()
        message = await self._in_time(self._receive())
        if message["type"] == "http.disconnect":
            raise _gone()
        self.size += len(message.get("body", b""))
        if self.size > self.limit:
            raise TooLarge(f"the body has more than {self.limit} bytes")
        if not message.get("more_body", False):
            if self.expected not in (None, self.size):
                raise Malformed(f"the body has {self.size} bytes, its headers said {self.expected}")
            self._complete()
        return message

    def go_direct(self) -> bytes | None:
        """Leave messages for :meth:`receive_into`, after the first of them.

        Returns:
            bytes that came since the last message; ``None`` where there is no way around messages.
        """
        if self._direct is None or self.expected is None or self.complete:
            return None
        since = self._direct.begin(self.size)
        self._count(len(since))
        return since

    async def receive_into(self, room: memoryview) -> None:
        """Fill ``room``, or as much of it as the body still has.

        After a call that was cancelled, the next one must be given the same memory.

        Raises:
            BodyTimeout: the deadline passed.
            ClientDisconnected: the client went away before the end.
        """
        direct: Direct = self._direct  # type: ignore[assignment]  # go_direct() was called
        wanted = min(len(room), (self.expected or 0) - self.size)
        received = await self._in_time(direct.receive_into(room))
        self._count(received)
        if received < wanted:
            raise _gone()

    @property
    def progress(self) -> tuple[int, int]:
        """Changes whenever bytes come, also before they are counted."""
        return self.size, 0 if self._direct is None else self._direct.filled

    def end(self) -> None:
        """Receive no more of the body; what still comes of it is thrown away."""
        if self._direct is not None:
            self._direct.end()

    async def _in_time(self, received: Awaitable[T]) -> T:
        # One deadline for all of it: trickling gains nothing.
        try:
            async with asyncio.timeout(self._deadline_s - self.spent_s):
                return await received
        except TimeoutError:
            raise BodyTimeout(f"the body was not complete within {self._deadline_s:g} s") from None

    def _count(self, size: int) -> None:
        self.size += size
        if self.size == self.expected:
            self._complete()

    def _complete(self) -> None:
        self.complete = True
        self.duration_s = self.spent_s


def _gone() -> ClientDisconnected:
    return ClientDisconnected("the client went away while sending its body")


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
