"""The HTTP server: uvicorn, stopped gracefully, with an exit code that says so."""

import asyncio
import os
import sys
import time
from types import FrameType
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.allocation import keep_freed_memory
from service.app import create_app
from service.direct import EXTENSION, Direct
from service.engine import Engine
from service.settings import Settings

EXIT_FORCED: Final = 1
CONTENT_LENGTH: Final = b"content-length"
LENGTH_DIGITS: Final = 18


class Server(uvicorn.Server):
    """uvicorn with a drain before its shutdown.

    The first SIGTERM or SIGINT starts draining: new work and readiness are answered with 503 while
    what runs goes on; when nothing is in flight any more, or the deadline has passed, the server
    stops and the process exits with 0. A second signal stops at once.
    """

    def __init__(self, config: uvicorn.Config, engine: Engine, settings: Settings) -> None:
        super().__init__(config)
        self.engine = engine
        self._settings = settings
        self._draining_since_s: float | None = None

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # The signals are not remembered as uvicorn does: it would raise them again at the end, and
        # a graceful stop would look like a crash to whoever supervises the process.
        if self._draining_since_s is None:
            self._draining_since_s = time.monotonic()
            self.engine.drain()
        else:
            self.should_exit = True
            self.force_exit = True

    @override
    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._drained()

    def _drained(self) -> bool:
        if self._draining_since_s is None:
            return False
        waited_s = time.monotonic() - self._draining_since_s
        if waited_s >= self._settings.shutdown_deadline_s:
            return True
        return waited_s >= self._settings.drain_s and self.engine.admitted == 0


def protocol(header_deadline_s: float) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol, with a deadline for the head of a connection's first request."""

    class Protocol(HttpToolsProtocol):
        _head: asyncio.TimerHandle | None = None

        @override
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # Without this a client that connects and sends nothing keeps its connection for ever.
            self._head = self.loop.call_later(header_deadline_s, transport.close)

        @override
        def on_headers_complete(self) -> None:
            self._in_time()
            super().on_headers_complete()
            length = next((value for name, value in self.headers if name == CONTENT_LENGTH), b"")
            if length.isdigit() and len(length) <= LENGTH_DIGITS:
                self.scope["state"][EXTENSION] = Direct(self, int(length))

        @override
        def connection_lost(self, exc: Exception | None) -> None:
            self._in_time()
            super().connection_lost(exc)

        def _in_time(self) -> None:
            if self._head is not None:
                self._head.cancel()
                self._head = None

    return Protocol


def make_server(settings: Settings) -> Server:
    """Return a server that has not started."""
    app = create_app(settings)
    return Server(_config(app, settings), app.state.engine, settings)


def serve(settings: Settings) -> int:
    """Serve until a signal; return the process's exit code.

    Raises:
        OSError: the data directory cannot be written.
        xentcore.DeviceUnavailable: the device is not there.
    """
    settings.prepare_data_dir()
    keep_freed_memory()
    server = make_server(settings)
    server.run()
    if server.force_exit or server.engine.busy:
        # A worker that does not come back would keep the interpreter from ending.
        _exit_now(EXIT_FORCED if server.force_exit else 0)
    return 0 if server.started else EXIT_FORCED


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "http": protocol(settings.header_deadline_s),
        "loop": "uvloop",
        "ws": "none",
        "log_config": None,  # the application's logger has taken over
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": 1,
    }
    return uvicorn.Config(app, **options)


def _exit_now(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
