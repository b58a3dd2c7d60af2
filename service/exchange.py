"""One evaluation from request to answer: admit, receive, decode, evaluate, encode, send."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.engine import Engine
from service.kernels import Kernels
from service.keys import Keys
from service.metrics import Metrics
from service.questions import Question, ask
from service.settings import Settings
from service.telemetry import notes_of
from service.wire.body import Arrival, Stalled
from service.wire.encodings import Decoder, decoder_for, identity
from service.wire.formats import Format, answer_format, request_format
from service.wire.payload import Limits, all_there
from xentcore import Cancelled, Result


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a worker hands back: the answer's bytes and what the metrics want to know."""

    chunks: Sequence[bytes | memoryview]
    results: Sequence[Result]
    timings_ms: dict[str, float]


class Exchange:
    """Answers evaluation requests."""

    def __init__(
        self,
        settings: Settings,
        *,
        engine: Engine,
        kernels: Kernels,
        keys: Keys,
        metrics: Metrics,
        device: torch.device,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._kernels = kernels
        self._keys = keys
        self._metrics = metrics
        self._device = device
        self._limits = Limits(
            rows=settings.rows,
            classes=settings.classes,
            elements=settings.elements,
            document_entries=settings.document_entries,
        )

    async def answer(self, request: Request, question: Question) -> Response:
        """Return the answer to one question. Raises whatever :mod:`service.problems` knows."""
        headers, notes = request.headers, notes_of(request.scope)
        self._keys.require(headers, "evaluate")
        source = request_format(headers.get("content-type"))
        decoder = decoder_for(headers.get("content-encoding"))
        target = answer_format(headers.get("accept"))
        with self._engine.admit() as permit:
            arrival = Arrival(
                request.receive,
                headers,
                limit=self._settings.body_bytes,
                deadline_s=self._settings.body_deadline_s,
            )
            work = self._work(arrival, question, decoder, (source, target))
            try:
                await arrival.begin(early=source.overlaps and decoder is identity)
                try:
                    evaluated = await permit.run(work, receive=arrival.receive)
                except Stalled:
                    await arrival.begin(early=False)
                    evaluated = await permit.run(work, receive=arrival.receive)
            finally:
                notes.request_bytes = arrival.size
                notes.timings_ms["receive"] = 1000 * arrival.duration_s
        notes.timings_ms.update(evaluated.timings_ms)
        self._metrics.count_rows(evaluated.results)
        return Chunks(evaluated.chunks, media_type=target.media_type)

    def _work(
        self, arrival: Arrival, question: Question, decoder: Decoder, formats: tuple[Format, Format]
    ) -> Callable[[Callable[[], bool]], Evaluated]:
        """Return what a worker thread does with a body, whose last bytes may still arrive."""
        source, target = formats

        def work(cancelled: Callable[[], bool]) -> Evaluated:
            clock = Clock()
            plain = decoder(arrival.body(), limit=self._settings.body_bytes, cancelled=cancelled)
            if cancelled():
                raise Cancelled("given up before the evaluation")
            fields = question.model.model_fields
            arrived = arrival.wait if decoder is identity else all_there
            payload = source.decode(plain, self._limits, fields, arrived)
            clock.lap("decode")
            answer = ask(
                question,
                payload,
                per_class_limit=target.per_class_limit,
                device=self._device,
                passes=self._kernels.passes,
                cancelled=cancelled,
            )
            clock.lap("compute")
            chunks = target.encode(answer.document)
            clock.lap("encode")
            return Evaluated(chunks, answer.results, clock.laps_ms)

        return work


class Clock:
    """Laps in milliseconds."""

    def __init__(self) -> None:
        self._last_s = time.perf_counter()
        self.laps_ms: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Name the time since the last lap."""
        now_s = time.perf_counter()
        self.laps_ms[name] = 1000 * (now_s - self._last_s)
        self._last_s = now_s


class Chunks(Response):
    """A body in several pieces of known length, sent without being joined."""

    def __init__(self, chunks: Sequence[bytes | memoryview], *, media_type: str) -> None:
        super().__init__(media_type=media_type)
        self._chunks = chunks
        self.headers["content-length"] = str(sum(len(chunk) for chunk in chunks))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the pieces."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        for chunk in self._chunks[:-1]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": self._chunks[-1], "more_body": False})
