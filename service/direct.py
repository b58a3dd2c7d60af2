"""The rest of a body of known length, from the socket straight into memory that is given.

The usual way of a body's bytes copies them four times: into the event loop's bytes, the parser's,
the server's, and those of the message. Here the system writes them where they are read. The HTTP
parser sees nothing of them, so that it is replaced by a new one for the request that follows.
"""

import asyncio
from typing import Final

import httptools
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION: Final = "direct"  # in the state of a request whose length is known
DISCARDED_BYTES: Final = 1 << 16


class Direct(asyncio.BufferedProtocol):
    """Takes a connection over from its HTTP protocol until one body has been received.

    Args:
        http: the connection's protocol, in the midst of a request.
        length: bytes of the body.
    """

    def __init__(self, http: HttpToolsProtocol, length: int) -> None:
        self._http = http
        self._length = length
        self._left = 0
        self._room = memoryview(b"")
        self._filled = 0
        self._kept = 0
        self._done: asyncio.Future[int] | None = None
        self._discard = False

    @property
    def filled(self) -> int:
        """Bytes of the room last given that have been filled."""
        return self._filled

    def begin(self, received: int) -> bytes:
        """Take over after ``received`` bytes; return those that came since."""
        http, cycle = self._http, self._http.cycle
        since = bytes(cycle.body)
        cycle.body = bytearray()
        self._left = self._length - received - len(since)
        if self._left and not http.transport.is_closing():
            http.transport.pause_reading()
            http.transport.set_protocol(self)
        return since

    async def receive_into(self, room: memoryview) -> int:
        """Fill ``room``, or as much of it as the body still has; return how much that is.

        Less, if the client goes away. What a call had received when it was cancelled is counted by
        the next, which must be given the same memory.
        """
        transport = self._http.transport
        self._filled, self._kept = self._kept, 0
        room = room[: self._filled + self._left]
        if self._filled == len(room) or transport.is_closing():
            return self._filled
        self._room = room
        self._done = asyncio.get_running_loop().create_future()
        transport.resume_reading()
        try:
            return await self._done
        except asyncio.CancelledError:
            self._kept = self._filled
            if self._left and not self._discard and not transport.is_closing():
                transport.pause_reading()  # nobody says where more of it goes
            raise
        finally:
            self._room = memoryview(b"")  # the body is not to live as long as its connection

    def end(self) -> None:
        """Give the connection back, once what is left of the body has come and was thrown away."""
        transport = self._http.transport
        if self._left and not transport.is_closing() and transport.get_protocol() is self:
            self._discard = True
            transport.resume_reading()

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        if self._discard:
            return memoryview(bytearray(min(self._left, DISCARDED_BYTES)))
        return self._room[self._filled :]

    @override
    def buffer_updated(self, nbytes: int) -> None:
        """Count bytes that have come."""
        self._left -= nbytes
        self._filled += nbytes
        self._http._unset_keepalive_if_required()  # noqa: SLF001  (as whenever bytes come)
        if not self._left:
            self._give_back()
        elif not self._discard and self._filled == len(self._room):
            self._http.transport.pause_reading()
        else:
            return
        self._tell()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._http.connection_lost(exc)
        self._tell()

    @override
    def pause_writing(self) -> None:
        self._http.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._http.resume_writing()

    def _tell(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(self._filled)

    def _give_back(self) -> None:
        """Let the HTTP protocol go on as if its parser had seen the end of the body."""
        http = self._http
        http.transport.pause_reading()
        http.parser = httptools.HttpRequestParser(http)
        http.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as it had
        http.transport.set_protocol(http)
        http.on_message_complete()
        http.flow.read_paused = False
        http.transport.resume_reading()
