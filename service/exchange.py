"""One evaluation from request to answer: admit, receive, decode, evaluate, encode, send."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import torch
from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.answering import ask
from service.brief import TooLong, check_brief, is_at_hand, may_be_brief
from service.direct import EXTENSION
from service.engine import Engine, Permit, Work
from service.evaluated import Chunk, Clock, Evaluated, Unrecorded
from service.flow import Flow
from service.keeping import digest, waiting
from service.kernels import Kernels
from service.keys import Keys
from service.metrics import Metrics
from service.questions import Question
from service.reading import Reading
from service.settings import Settings, cores
from service.telemetry import notes_of
from service.terms import limits_of, terms_of
from service.threads import find_room, paced
from service.tracking import Tracking
from service.wire.arrival import Arrival, Stalled
from service.wire.body import Incoming
from service.wire.encodings import identity
from service.wire.formats import Format, Source, Spoken, spoken
from service.wire.payload import Body, all_there, awaits_labels
from service.wire.piece import Piece
from xentcore import Cancelled

SMALL_BYTES: Final = 1 << 16


class Exchange:
    """Answers evaluation requests."""

    def __init__(  # noqa: PLR0913  (the parts that it joins)
        self,
        settings: Settings,
        *,
        engine: Engine,
        kernels: Kernels,
        keys: Keys,
        metrics: Metrics,
        tracking: Tracking,
        device: torch.device,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._kernels = kernels
        self._keys = keys
        self._metrics = metrics
        self._tracking = tracking
        self._device = device
        self._limits = limits_of(settings)
        self._cores = cores()

    async def answer(
        self,
        request: Request,
        question: Question,
        speak: Callable[[Mapping[str, str]], Spoken] = spoken,
    ) -> Response:
        """Return the answer to one question.

        Args:
            request: of which nothing but the head was read.
            question: what is asked.
            speak: from the headers to what the request comes in; media types, if nothing is said.

        Raises:
            Whatever :mod:`service.problems` knows.
        """
        headers, notes = request.headers, notes_of(request.scope)
        self._keys.require(headers, "evaluate")
        terms = speak(headers)
        source, decoder, target = terms.source, terms.decoder, terms.target
        with self._engine.admit() as permit:
            incoming = Incoming(
                request.receive,
                headers,
                limit=self._settings.body_bytes,
                deadline_s=self._settings.body_deadline_s,
                direct=request.scope["state"].get(EXTENSION),
            )
            try:
                if decoder is identity and self._comes_in_pieces(incoming, source):
                    reading = self._reading(
                        question,
                        (source, target),
                        length=incoming.expected,
                        is_complete=lambda: incoming.complete,
                    )
                    evaluated = await self._flow(incoming, reading, permit).carry()
                else:
                    arrival = Arrival(incoming, aligned=terms.aligned)
                    work = partial(self._work, arrival, question, terms)
                    early = source.overlaps and decoder is identity
                    brief = may_be_brief(question, terms, self._device)
                    evaluated = await _whole(arrival, work, permit, early=early, brief=brief)
            finally:
                notes.request_bytes = incoming.size
                notes.timings_ms["receive"] = 1000 * incoming.duration_s
            notes.timings_ms.update(evaluated.timings_ms)
            chunks = evaluated.chunks
            if evaluated.unrecorded is not None:
                clock = Clock()
                marks = await self._tracking.record(
                    evaluated.unrecorded, path=question.path, media_type=source.media_type
                )
                clock.lap("record")
                if evaluated.unrecorded.is_short:
                    chunks = evaluated.unrecorded.encode(marks)
                else:
                    write = partial(_written, evaluated.unrecorded, marks)
                    chunks = await permit.run(write, receive=incoming.receive, begun=True)
                clock.lap("encode")
                notes.timings_ms.update(clock.laps_ms)
        self._metrics.count_rows(evaluated.results)
        return Chunks(chunks, media_type=target.media_type)

    def _comes_in_pieces(self, incoming: Incoming, source: Source) -> bool:
        """Tell whether a body is read piece by piece: one buffer is quicker for those of a size."""
        if source.stream is None:
            return False
        of_a_size = incoming.expected is not None and (
            incoming.expected <= self._settings.stream_bytes
        )
        return source.decode is None or not of_a_size

    def _reading(
        self,
        question: Question,
        formats: tuple[Source, Format],
        *,
        length: int | None,
        is_complete: Callable[[], bool],
    ) -> Reading:
        source, target = formats
        if source.stream is None:
            raise AssertionError("asked of media types that come in pieces only")
        return Reading(
            source.stream,
            terms_of(self._settings, question, length),
            question=question,
            target=target,
            device=self._device,
            passes=self._kernels.passes,
            threads=self._settings.threads,
            has_room=partial(self._has_room, is_complete),
            pending_bytes=self._settings.pending_bytes,
        )

    def _has_room(self, is_complete: Callable[[], bool]) -> bool:
        """Tell whether a body is complete, and nobody else needs the cores."""
        admitted = self._engine.admitted
        return is_complete() and find_room(
            self._settings.threads, cores=self._cores, admitted=admitted
        )

    def _flow(self, incoming: Incoming, reading: Reading, permit: Permit) -> Flow[Evaluated]:
        return Flow(
            incoming,
            reading,
            permit=permit,
            piece_bytes=self._settings.piece_bytes,
            deadline_s=self._settings.evaluation_deadline_s,
        )

    def _work(
        self, arrival: Arrival, question: Question, terms: Spoken, *, brief: bool = False
    ) -> Work[Evaluated]:
        """Return what is done with a body, whose last bytes may still arrive; ``brief`` or not."""
        source, decoder, target = terms.source, terms.decoder, terms.target

        def work(cancelled: Callable[[], bool]) -> Evaluated:
            clock = Clock()
            torch.set_num_threads(self._settings.threads)
            plain = decoder(arrival.body(), limit=self._settings.body_bytes, cancelled=cancelled)
            if cancelled():
                raise Cancelled("given up before the evaluation")
            if source.decode is None:
                reading = self._reading(
                    question, (source, target), length=len(plain), is_complete=lambda: True
                )
                return _at_once(reading, plain, cancelled)
            fields = question.model.model_fields
            arrived = arrival.wait if decoder is identity else all_there
            payload = paced(
                source.decode(plain, self._limits, fields, arrived),
                threads=self._settings.threads,
                has_room=partial(self._has_room, lambda: arrival.is_complete),
            )
            if brief:
                check_brief(payload)
            body = plain
            if terms.relaid is not None and awaits_labels(payload.document):
                body = terms.relaid(payload)
            kept = waiting(body, payload.document, limit=self._settings.pending_bytes)
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
            if answer.recording is not None:
                unrecorded = Unrecorded(
                    answer.recording, digest(plain), kept, answer, target.encode
                )
                return Evaluated((), answer.results, clock.laps_ms, unrecorded)
            chunks = target.encode(answer.document)
            clock.lap("encode")
            return Evaluated(chunks, answer.results, clock.laps_ms)

        return work


async def _whole(
    arrival: Arrival,
    work: Callable[..., Work[Evaluated]],
    permit: Permit,
    *,
    early: bool,
    brief: bool,
) -> Evaluated:
    """Return what is made of a body in one buffer.

    Args:
        arrival: the body.
        work: returns what is to be done.
        permit: the place in the queue.
        early: whether a worker may begin while the end of the body arrives.
        brief: whether it needs none if the body is small.
    """
    try:
        await arrival.begin(early=early)
        if brief and is_at_hand(arrival, permit):
            with suppress(TooLong):
                return permit.run_here(work(brief=True))
        try:
            return await permit.run(work(), receive=arrival.receive)
        except Stalled:
            await arrival.begin(early=False)
            return await permit.run(work(), receive=arrival.receive)
    finally:
        arrival.end()


def _written(
    unrecorded: Unrecorded, marks: Sequence[Mapping[str, object]], _: Callable[[], bool]
) -> Sequence[Chunk]:
    """Return an answer's bytes once its batch is recorded. On a worker."""
    return unrecorded.encode(marks)


def _at_once(reading: Reading, body: Body, cancelled: Callable[[], bool]) -> Evaluated:
    """Return what is read of a stream that is all there."""
    try:
        reading.push(Piece.of(body), cancelled)
        return reading.finish(cancelled)
    finally:
        reading.close()


def _together(chunks: Sequence[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield the chunks, small ones that follow each other as one: sending one takes longer."""
    small: list[bytes | memoryview] = []
    for chunk in chunks:
        if len(chunk) < SMALL_BYTES:
            small.append(chunk)
            continue
        if small:
            yield b"".join(small)
            small = []
        yield chunk
    if small:
        yield b"".join(small)


class Chunks(Response):
    """A body in several pieces of known length, sent without large ones being joined."""

    def __init__(self, chunks: Sequence[bytes | memoryview], *, media_type: str) -> None:
        super().__init__(media_type=media_type)
        self._chunks = list(_together(chunks))
        self.headers["content-length"] = str(sum(len(chunk) for chunk in chunks))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the pieces."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        for chunk in self._chunks[:-1]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": self._chunks[-1], "more_body": False})
