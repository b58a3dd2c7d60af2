"""Connections as thin as they can be, so that the client is not what is measured."""

import re
import socket
from typing import Final, Self

OK: Final = b"HTTP/1.1 200 "
HEAD_END: Final = b"\r\n\r\n"
LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
CHUNK: Final = 1 << 20


class Connection:
    """One TCP connection on loopback, used again and again."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(CHUNK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send all bytes."""
        self._socket.sendall(data)

    def receive(self, count: int) -> None:
        """Receive and forget this many bytes."""
        while count:
            count -= self._some(count)

    def answer(self) -> bytes:
        """Receive one HTTP answer; return its head.

        Raises:
            RuntimeError: it is no 200.
        """
        head = b""
        while HEAD_END not in head:
            got = self._some(CHUNK)
            head += self._buffer[:got]
        head, _, body = head.partition(HEAD_END)
        length = LENGTH.search(head)
        if not head.startswith(OK) or length is None:
            raise RuntimeError(f"not a plain 200: {head!r} {body[:500]!r}")
        self.receive(int(length[1]) - len(body))
        return head

    def exchange(self, request: bytes) -> bytes:
        """Send one HTTP request; return the head of its answer."""
        self.send(request)
        return self.answer()

    def _some(self, most: int) -> int:
        got = self._socket.recv_into(self._buffer, min(most, CHUNK))
        if not got:
            raise RuntimeError("the server closed the connection")
        return got


def head(path: str, length: int, media_type: str) -> bytes:
    """Return the head of a POST."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"content-type: {media_type}\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


def post(path: str, body: bytes, media_type: str) -> bytes:
    """Return the bytes of a POST."""
    return head(path, len(body), media_type) + body
