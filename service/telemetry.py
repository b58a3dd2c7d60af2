"""Structured logs and the middleware that gives every request an id, a log line and its counts."""

import logging
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, BinaryIO, Final

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.tracebacks import ExceptionDictTransformer
from typing_extensions import override

from service.errors import HistoryUnavailable, QueueFull, Unavailable
from service.metrics import Metrics
from service.problems import CLIENT_CLOSED, new_request_id, problem_response
from service.settings import Settings

REQUEST_ID_HEADER: Final = b"x-request-id"
SANE_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# Asked every few seconds.
QUIET: Final = ("/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready")
# Why work was refused that may well be taken later: the first that fits.
REASONS: Final[Mapping[type[Exception], str]] = {
    QueueFull: "queue_full",
    HistoryUnavailable: "history_unavailable",
    Unavailable: "unavailable",
}
Logger = structlog.typing.FilteringBoundLogger


@dataclass(slots=True)
class Notes:
    """What is learnt about a request on its way."""

    request_id: str
    request_bytes: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)
    error: BaseException | None = None


def notes_of(scope: Mapping[str, Any]) -> Notes:
    """Return the notes of a request that has passed the middleware."""
    notes: Notes = scope["state"]["notes"]
    return notes


def make_logger(settings: Settings, stream: BinaryIO | None = None) -> Logger:
    """Return a logger that writes one line per event, and send the server's own messages there."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[structlog.typing.Processor]
    if settings.log_format == "json":
        render = [
            # Without the frames' variables: the headers of the request are among them, and its key.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(serializer=_dumps),
        ]
    else:
        render = [structlog.dev.ConsoleRenderer(colors=False), _encoded]
    logger: Logger = structlog.wrap_logger(
        structlog.BytesLogger(stream or sys.stderr.buffer),
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    ).bind()  # now, not for every line
    _forward_server_messages(logger, level)
    return logger


def _dumps(event: Mapping[str, Any], **_: object) -> bytes:
    return orjson.dumps(event, default=str)


def _encoded(_: object, __: str, line: Any) -> bytes:  # noqa: ANN401  (a processor's signature)
    return str(line).encode()


class _Forward(logging.Handler):
    """Hands records of the standard library's logging to a structured logger."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    @override
    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        self._logger.log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
        )


def _forward_server_messages(logger: Logger, level: int) -> None:
    server = logging.getLogger("uvicorn")
    server.handlers = [_Forward(logger)]
    server.setLevel(level)
    server.propagate = False


class Telemetry:
    """ASGI middleware: request id, one log line, metrics, and the answer to unexpected errors."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, log: Logger) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log
        # Looked up once each: their labels take few values.
        self._requests = cache(metrics.requests.labels)
        self._duration_s = cache(metrics.duration_s.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        notes = Notes(_request_id(scope))
        scope.setdefault("state", {})["notes"] = notes
        answer = _Answer(send, notes)
        try:
            await self._app(scope, receive, answer.send)
        except Exception as error:
            notes.error = error
            self._log.exception("request failed", request_id=notes.request_id)
            if answer.status is None:
                response = problem_response(error, notes.request_id, path=scope["path"])
                await response(scope, receive, answer.send)
            else:  # half an answer is out: only breaking the connection can tell the client
                raise
        finally:
            self._finish(scope, notes, answer, time.perf_counter() - started_s)

    def _finish(self, scope: Scope, notes: Notes, answer: "_Answer", duration_s: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        # An answer that never started: the client left before it could.
        status = CLIENT_CLOSED if answer.status is None else answer.status
        self._requests(route, _method(scope), status).inc()
        self._duration_s(route).observe(duration_s)
        self._metrics.request_bytes.inc(notes.request_bytes)
        self._metrics.response_bytes.inc(answer.size)
        reason = next((each for kind, each in REASONS.items() if isinstance(notes.error, kind)), "")
        if reason:
            self._metrics.rejected.labels(reason).inc()
        level = logging.DEBUG if route in QUIET else logging.INFO
        if not self._log.is_enabled_for(level):
            return
        more = {} if notes.error is None else {"error": type(notes.error).__name__}
        self._log.log(
            level,
            "request",
            request_id=notes.request_id,
            method=scope["method"],
            path=scope["path"][:256],
            route=route,
            status=status,
            duration_ms=round(1000 * duration_s, 3),
            request_bytes=notes.request_bytes,
            response_bytes=answer.size,
            **{f"{name}_ms": round(value, 3) for name, value in notes.timings_ms.items()},
            **more,
        )


class _Answer:
    """Watches an answer go out: adds its headers, remembers its status and size."""

    def __init__(self, send: Send, notes: Notes) -> None:
        self._send = send
        self._notes = notes
        self.status: int | None = None
        self.size = 0

    async def send(self, message: Message) -> None:
        """Send one message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], (REQUEST_ID_HEADER, self._notes.request_id.encode())]
            timings = self._notes.timings_ms.items()
            if timings:
                value = ", ".join(f"{name};dur={ms:.3f}" for name, ms in timings)
                headers.append((b"server-timing", value.encode()))
            message = {**message, "headers": headers}
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == REQUEST_ID_HEADER), b"")
    return given.decode() if SANE_ID.fullmatch(given) else new_request_id()


def _method(scope: Scope) -> str:
    known = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    return scope["method"] if scope["method"] in known else "other"
