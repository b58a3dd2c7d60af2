"""Labels that come after their logits, from request to answer: read, find, evaluate, correct."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from fastapi import Request

from service.direct import EXTENSION
from service.engine import Engine, Permit
from service.errors import Outdated
from service.evaluated import Clock
from service.history.entries import Corrected
from service.history.recorder import Recorder
from service.keys import Keys
from service.metrics import Metrics
from service.relabelling import Late, Relabelled, Relabelling
from service.schema.answer import LabelledBatch, LabelledRows, LabelsAnswer
from service.schema.track import LabelsDocument
from service.schema.validation import validate
from service.settings import Settings
from service.telemetry import notes_of
from service.terms import limits_of
from service.wire.arrival import Arrival
from service.wire.body import Incoming
from service.wire.encodings import Decoder, decoder_for
from service.wire.formats import DecodeLabels, labels_format

# Labels of other rows of the batch may come at the same time; then it is done once more.
ATTEMPTS: Final = 5
Done = Sequence[tuple[Relabelled, Corrected]]


class Labelling:
    """Answers requests of labels."""

    def __init__(
        self,
        settings: Settings,
        *,
        engine: Engine,
        keys: Keys,
        metrics: Metrics,
        recorder: Recorder,
        relabelling: Relabelling,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._keys = keys
        self._metrics = metrics
        self._recorder = recorder
        self._relabelling = relabelling
        self._limits = limits_of(settings)

    async def answer(self, request: Request) -> LabelsAnswer:
        """Return what became of the batches that the labels are of.

        Raises:
            ServiceError: whatever :mod:`service.problems` knows.
        """
        headers, notes = request.headers, notes_of(request.scope)
        self._keys.require(headers, "evaluate")
        decode = labels_format(headers.get("content-type"))
        decoder = decoder_for(headers.get("content-encoding"))
        clock = Clock()
        with self._engine.admit() as permit:
            incoming = Incoming(
                request.receive,
                headers,
                limit=self._settings.body_bytes,
                deadline_s=self._settings.body_deadline_s,
                direct=request.scope["state"].get(EXTENSION),
            )
            arrival = Arrival(incoming)
            try:
                await arrival.begin(early=False)
                read = partial(self._read, arrival, decode, decoder)
                late = await permit.run(read, receive=arrival.receive)
            finally:
                arrival.end()
                notes.request_bytes = incoming.size
                notes.timings_ms["receive"] = 1000 * incoming.duration_s
            clock.lap("decode")
            done = await self._corrected(late, permit, arrival)
            clock.lap("record")
        notes.timings_ms.update(clock.laps_ms)
        return LabelsAnswer(batches=[_batch(each, what) for each, what in done])

    def _read(
        self,
        arrival: Arrival,
        decode: DecodeLabels,
        decoder: Decoder,
        cancelled: Callable[[], bool],
    ) -> Late:
        """Return the request. On a worker."""
        plain = decoder(arrival.body(), limit=self._settings.body_bytes, cancelled=cancelled)
        payload = decode(plain, self._limits, LabelsDocument.model_fields)
        return Late(validate(LabelsDocument, payload.document), payload.labels)

    async def _corrected(self, late: Late, permit: Permit, arrival: Arrival) -> Done:
        for _ in range(ATTEMPTS - 1):
            with suppress(Outdated):
                return await self._attempt(late, permit, arrival)
        return await self._attempt(late, permit, arrival)

    async def _attempt(self, late: Late, permit: Permit, arrival: Arrival) -> Done:
        named = late.document
        kept = await self._recorder.kept(
            named.project, named.model, named.model_version, named.batch_id, named.variant
        )
        evaluate = partial(self._relabelling, late, kept)
        found = await permit.run(evaluate, receive=arrival.receive, begun=True)
        corrected = await self._recorder.correct([each.correction for each in found])
        for each in corrected:
            self._metrics.labelled.labels(each.status).inc()
        return list(zip(found, corrected, strict=True))


def _batch(relabelled: Relabelled, corrected: Corrected) -> LabelledBatch:
    sums = relabelled.sums
    return LabelledBatch(
        series=corrected.series,
        variant=relabelled.kept.variant,
        status=corrected.status,
        revision=corrected.revision,
        pending=corrected.pending,
        rows=LabelledRows(total=sums.rows, labelled=sums.rows - sums.ignored),
        loss=sums.loss_sum / sums.weight_sum if sums.weight_sum else None,
    )
