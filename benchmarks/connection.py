"""Connections as thin as they can be, so that the client is not what is measured."""

import re
import socket
from collections.abc import Iterable
from typing import Final, Self

OK: Final = b"HTTP/1.1 200 "
DETAIL: Final = re.compile(rb'"detail": ?"([^"]*)"')
HEAD_END: Final = b"\r\n\r\n"
LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
CHUNK: Final = 1 << 20
TIMEOUT_S: Final = 120.0


class Refused(Exception):
    """A request was not answered 200; the message is short enough for a table."""


class Connection:
    """One TCP connection on loopback, used again and again."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
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
            Refused: it is no 200.
        """
        head = b""
        while HEAD_END not in head:
            got = self._some(CHUNK)
            head += self._buffer[:got]
        head, _, body = head.partition(HEAD_END)
        length = LENGTH.search(head)
        if not head.startswith(OK) or length is None:
            while length is not None and len(body) < int(length[1]):
                got = self._some(CHUNK)
                body += self._buffer[:got]
            raise Refused(f"{_line(head)}{_detail(body)}")
        self.receive(int(length[1]) - len(body))
        return head

    def exchange(self, request: Iterable[bytes]) -> bytes:
        """Send one HTTP request, part by part; return the head of its answer.

        Raises:
            Refused: the answer is no 200.
        """
        try:
            for part in request:
                self.send(part)
        except ConnectionError:
            # Refused before all of it was sent: the answer says why.
            self.answer()
            raise
        return self.answer()

    def _some(self, most: int) -> int:
        got = self._socket.recv_into(self._buffer, min(most, CHUNK))
        if not got:
            raise RuntimeError("the server closed the connection")
        return got


def post(path: str, body: bytes, media_type: str) -> tuple[bytes]:
    """Return the bytes of a POST, as the only part of it."""
    return (head(path, len(body), media_type) + body,)


def head(path: str, length: int, media_type: str, *further: str) -> bytes:
    """Return the head of a POST; ``further`` are lines of headers."""
    lines = (
        f"POST {path} HTTP/1.1",
        "host: 127.0.0.1",
        f"content-type: {media_type}",
        f"content-length: {length}",
        *further,
    )
    return "\r\n".join((*lines, "", "")).encode()


def _line(answer: bytes) -> str:
    return answer.partition(b"\r\n")[0].decode(errors="replace")


def _detail(body: bytes) -> str:
    """Return what a problem document says, as far as it has arrived."""
    found = DETAIL.search(body)
    return f": {found[1].decode(errors='replace')}" if found else ""
