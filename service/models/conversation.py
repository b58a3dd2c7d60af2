"""One request of features: which model makes its logits, and what the answer says about that."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson
from typing_extensions import override

from service.errors import Fault, InvalidDocument, invalid
from service.models.description import Description
from service.models.shelf import Shelf
from service.questions import Answer, CompareQuestion, LossQuestion, Rephrased
from service.schema.document import Document
from service.wire import safetensors
from service.wire.encodings import Decoder, decoder_for
from service.wire.formats import Source, Spoken, answer_format, features_format
from service.wire.payload import Body, Limits, Payload, all_there, extent
from service.wire.safetensors_header import REQUEST
from xentcore import Evaluation

if TYPE_CHECKING:
    from service.models.running import Running

CODES: Final[Mapping[str, str]] = {
    "softmax": "softmax_left_out",
    "log_softmax": "softmax_left_out",
    "sigmoid": "sigmoid_left_out",
}


@dataclass(frozen=True, slots=True)
class Made:
    """What a model makes of a request."""

    name: str
    version: str
    model: Description
    running: "Running"


class Conversation(Rephrased):
    """A question about logits that a model makes, for one request.

    Args:
        shelf: where the model is.
        name: of the model.
        version: of the model; ``None`` for the newest.
        question: the same as it is asked of logits.
    """

    def __init__(
        self,
        shelf: Shelf,
        name: str,
        version: str | None,
        question: LossQuestion | CompareQuestion,
    ) -> None:
        super().__init__(question)
        self._shelf = shelf
        self._name = name
        self._version = version
        self._cancelled: Callable[[], bool] = lambda: False
        self._made: Made | None = None

    def speak(self, headers: Mapping[str, str]) -> Spoken:
        """Return how this request is read and answered.

        Raises:
            UnsupportedMediaType: a media type or an encoding that is none of ours.
        """
        read = features_format(headers.get("content-type"))
        decoder = decoder_for(headers.get("content-encoding"))

        def decode(
            body: Body,
            limits: Limits,
            fields: Collection[str],
            arrived: Callable[[int], None] = all_there,
        ) -> Payload:
            arrived(len(body))
            found = read(body, limits, fields)
            return self._payload(dict(found.document), dict(found.tensors), limits)

        # What waits for labels is the logits, as a body of their own.
        source = Source(
            safetensors.MEDIA_TYPE, decode, stream=None, overlaps=False, contained=False
        )
        target = answer_format(headers.get("accept"))
        return Spoken(source, self._noting(decoder), target, relaid=_relaid)

    def _noting(self, decoder: Decoder) -> Decoder:
        """Return a decoder that notes who is to be asked whether the request is given up."""

        def decode(body: Body, *, limit: int, cancelled: Callable[[], bool]) -> Body:
            self._cancelled = cancelled
            return decoder(body, limit=limit, cancelled=cancelled)

        return decode

    def _payload(
        self, document: dict[str, object], tensors: dict[str, Any], limits: Limits
    ) -> Payload:
        """Return the request as ``/loss`` has it. On a worker."""
        library = self._shelf.library()
        version, model = library.chosen(self._name, self._version)
        document["track"] = _tracked(document.get("track"), self._name, version)
        _check(document, model)
        class_axis = document.get("class_axis", 1)
        running = library.run(
            (self._name, version, model),
            tensors.pop("features"),
            limits=limits,
            class_axis=class_axis,
            cancelled=self._cancelled,
        )
        self._made = Made(self._name, version, model, running)
        if model.classes is not None and document.get("class_names") is None:
            _, classes = extent(running.logits.shape, class_axis)
            if classes == len(model.classes):
                document["class_names"] = list(model.classes)
        tensors["logits"] = running.logits
        return Payload.of(document, tensors, await_rows=running.await_rows)

    @override
    def answer(self, evaluation: Evaluation, document: Document) -> Answer:
        """Return what an evaluation answers to the request. Raises what the core raises."""
        answer = super().answer(evaluation, document)
        made = self._made
        if made is None:
            raise AssertionError("nothing is answered before it is decoded")
        for part, result in zip(answer.parts, answer.results, strict=True):
            part["model"] = {"name": made.name, "version": made.version}
            if made.model.recognised in CODES:
                said = {
                    "code": CODES[made.model.recognised],
                    "severity": "info",
                    "message": made.model.note,
                    "count": result.rows.total,
                }
                part["diagnostics"] = [said, *_listed(part["diagnostics"])]
        return answer

    def timings_ms(self, timings_ms: Mapping[str, float]) -> dict[str, float]:
        """Return a request's timings with those of the model told apart."""
        if self._made is None:
            return dict(timings_ms)
        running = self._made.running
        first_ms, all_ms = 1000 * running.first_s, 1000 * running.spent_s
        taken = {"decode": first_ms, "compute": all_ms - first_ms}
        rest = {name: ms - taken.get(name, 0.0) for name, ms in timings_ms.items()}
        return {**rest, "model": all_ms}


def _listed(diagnostics: object) -> list[object]:
    return list(diagnostics) if isinstance(diagnostics, list) else []


def _tracked(track: object, name: str, version: str) -> object:
    """Return what is tracked, as of this model.

    Raises:
        InvalidDocument: it names another one.
    """
    if not isinstance(track, Mapping):
        return track
    own = {"model": name, "model_version": version}
    faults = [
        Fault(f"/track/{field}", f"is not what makes the logits, '{value}': leave it out")
        for field, value in own.items()
        if track.get(field, value) != value
    ]
    if faults:
        raise InvalidDocument(faults)
    return {**track, **own}


def _check(document: Mapping[str, object], model: Description) -> None:
    """Check what a request says of logits that the model gives.

    Raises:
        InvalidDocument: it does not fit them.
    """
    given = document.get("input", "logits")
    if model.recognised == "probabilities" and given == "logits":
        raise invalid("/input", model.note)
    if model.recognised in CODES and given != "logits":
        raise invalid("/input", f"{model.note}; leave it out")
    axis, asked = model.axis, document.get("class_axis", 1)
    rank = len(model.output.shape)
    if axis is None or not isinstance(asked, int) or not -rank <= asked < rank:
        return
    if asked % rank != axis:
        raise invalid(
            "/class_axis", f"the model's softmax is over axis {axis} of {rank}: state that one"
        )


def _relaid(payload: Payload) -> Body:
    """Return a request as it would have been sent with its logits."""
    payload.await_rows(extent(payload.logits.shape, payload.document.get("class_axis", 1))[0])
    tensors = {
        "logits": payload.logits,
        "labels": payload.labels,
        "sample_weights": payload.sample_weights,
        "class_weights": payload.class_weights,
    }
    there = {name: each for name, each in tensors.items() if each is not None}
    request = orjson.dumps(dict(payload.document)).decode()
    return Body(np.frombuffer(b"".join(safetensors.framed(there, {REQUEST: request})), np.uint8))
