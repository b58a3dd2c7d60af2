"""A small server that answers what it is told to, one request after the other."""

import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from tests.service.harness import PATIENCE_S

HANG_UP = b""
"""Closes the connection instead of answering."""


def response(
    status: int, body: bytes = b"{}", *, media_type: str = "application/json", **headers: str
) -> bytes:
    """Return an answer as it travels."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", f"content-type: {media_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Answering:
    """Gives its answers in turn, and remembers what was asked."""

    answers: Sequence[bytes]
    hang_up_after: bytes = HANG_UP
    heads: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(timeout=PATIENCE_S)
        self._server.close()

    def _run(self) -> None:
        waiting = list(self.answers)
        while waiting:
            connection, _ = self._server.accept()
            with connection, connection.makefile("rb") as read:
                while waiting and (head := _head(read)):
                    self.heads.append(head)
                    answer = waiting.pop(0)
                    if answer == HANG_UP:
                        break
                    connection.sendall(answer)
                    if answer == self.hang_up_after:
                        break


def _head(read: "socket.SocketIO | object") -> str:
    """Return a request's head, having read its body too; "" where the other side is gone."""
    lines = []
    while (line := read.readline()) not in (b"\r\n", b""):  # type: ignore[union-attr]
        lines.append(line.decode().strip().lower())
    sizes = [line.partition(":")[2] for line in lines if line.startswith("content-length")]
    read.read(int(sizes[0]) if sizes else 0)  # type: ignore[union-attr]
    while any(line.startswith("transfer-encoding") for line in lines):
        size = int(read.readline(), 16)  # type: ignore[union-attr]
        read.read(size + 2)  # type: ignore[union-attr]
        if not size:
            break
    return "\n".join(lines)
