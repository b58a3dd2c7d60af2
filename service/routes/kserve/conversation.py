"""One inference request: how it is read, what it asks, how it is answered."""

from collections.abc import Callable, Collection, Mapping, Sequence

from typing_extensions import override

from service.errors import Fault, InvalidDocument
from service.questions import Asked, LossQuestion, Rephrased
from service.wire.encodings import decoder_for
from service.wire.formats import Format, Spoken
from service.wire.kserve import answer, request
from service.wire.kserve.compression import coding_for
from service.wire.kserve.framing import header_length
from service.wire.kserve.model import Model
from service.wire.kserve.regions import Regions
from service.wire.payload import Body, Limits, Payload, all_there
from xentcore import XentError


class Conversation(Rephrased):
    """A question in the protocol's words, for one request.

    Errors point into the protocol's request: ``/parameters/gamma``, ``/inputs/0``.

    Args:
        model: who is asked.
        question: the same as it is asked of ``/loss``.
        regions: of shared memory.

    Attributes:
        headers: of the answer, once there is one.
    """

    def __init__(self, model: Model, question: LossQuestion, regions: Regions) -> None:
        super().__init__(question)
        self._model = model
        self._regions = regions
        self._length: int | None = None
        self._coding: str | None = None
        self._inference: request.Inference | None = None
        self.headers: Mapping[str, str] = {}

    def speak(self, headers: Mapping[str, str]) -> Spoken:
        """Return how this request is read and answered.

        Raises:
            Malformed: a header length that is no number.
            UnsupportedMediaType: an encoding that is none of ours.
        """
        self._length = header_length(headers)
        self._coding = coding_for(headers.get("accept-encoding"))
        spoken = Format(
            answer.JSON,
            self._decode,
            stream=None,
            overlaps=self._length is not None,
            contained=False,  # tensors may lie in shared memory
            encode=self._encode,
            per_class_limit=None,
        )
        decoder = decoder_for(headers.get("content-encoding"))
        return Spoken(spoken, decoder, spoken, aligned=self._length or 0)

    def _decode(
        self,
        body: Body,
        limits: Limits,
        fields: Collection[str],  # noqa: ARG002  (the model knows them)
        arrived: Callable[[int], None] = all_there,
    ) -> Payload:
        self._inference = request.decode(
            body, self._length, self._model, limits, self._regions, arrived
        )
        return self._inference.payload

    def _encode(self, document: Mapping[str, object]) -> Sequence[bytes | memoryview]:
        response = answer.encode(document, self._decoded, self._model.name, self._coding)
        self.headers = response.headers
        return response.chunks

    @override
    def read(self, payload: Payload, *, per_class_limit: int | None) -> Asked:
        """Validate the document. Raises InvalidDocument, and what the core raises."""
        try:
            return super().read(payload, per_class_limit=per_class_limit)
        except InvalidDocument as error:
            faults = [Fault(self._pointer(each.pointer), each.message) for each in error.faults]
            raise InvalidDocument(faults) from None

    @override
    def located(self, error: XentError) -> str:
        """Return the JSON pointer of what a core error is about."""
        return self._pointer(error.pointer)

    def _pointer(self, pointer: str) -> str:
        """Return where the protocol's request holds a part of the document."""
        path = pointer.removeprefix("/settings").removeprefix("/")
        name = path.partition("/")[0]
        inputs = self._decoded.inputs
        if name in inputs:
            return f"/inputs/{inputs.index(name)}"
        return f"/{path}" if name in ("", "outputs") else f"/parameters/{path}"

    @property
    def _decoded(self) -> request.Inference:
        if self._inference is None:
            raise AssertionError("nothing is asked or answered before it is decoded")
        return self._inference
