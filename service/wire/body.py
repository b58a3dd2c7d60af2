"""The request body: received from the event loop into one buffer, within a deadline."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from service.errors import BodyTimeout, ClientDisconnected, Malformed, TooLarge
from service.wire.buffer import Buffer
from service.wire.payload import Body

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
CONTENT_LENGTH: Final = "content-length"


async def receive_body(
    receive: Receive, headers: Mapping[str, str], *, limit: int, deadline_s: float
) -> Body:
    """Return the whole body.

    Raises:
        TooLarge: more than ``limit`` bytes, by the headers or while streaming.
        Malformed: not as many bytes as the headers said.
        BodyTimeout: not complete after ``deadline_s`` seconds.
        ClientDisconnected: the client went away.
    """
    expected = _declared(headers, limit)
    buffer = Buffer(limit=limit, expected=expected)
    try:
        async with asyncio.timeout(
            deadline_s
        ):  # one deadline for all of it: trickling gains nothing
            await _fill(buffer, receive)
    except TimeoutError:
        raise BodyTimeout(f"the body was not complete within {deadline_s:g} s") from None
    if expected is not None and buffer.size != expected:
        raise Malformed(f"the body has {buffer.size} bytes, its headers said {expected}")
    return buffer.body()


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


async def _fill(buffer: Buffer, receive: Receive) -> None:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected("the client went away while sending its body")
        buffer.append(message.get("body", b""))
        more = message.get("more_body", False)
