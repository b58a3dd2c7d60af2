"""An inference request: one JSON object, and the tensors' bytes behind it or elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from simdjson import Array, Object
from torch import Tensor

from service.errors import Malformed, NotOffered, TooLarge
from service.wire.document import Plain, Value, entries_of, parse
from service.wire.kserve.asked import Asked, asked_outputs
from service.wire.kserve.datatypes import BINARY_ONLY, DTYPES
from service.wire.kserve.framing import Blobs, header_end
from service.wire.kserve.model import Model
from service.wire.kserve.outputs import GRADIENT
from service.wire.kserve.parameters import document_of, scalars
from service.wire.kserve.regions import Regions
from service.wire.kserve.tensors import (
    Bytes,
    Declared,
    Received,
    declare,
    located,
    read_json,
)
from service.wire.lists import TensorReader
from service.wire.payload import Body, Limits, Payload, all_there
from service.wire.rows import bytes_of_rows, rows_are_in_order

# model_name and model_version are what the path says, too.
FIELDS: Final = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")
REQUIRED: Final = ("logits", "labels")
TENSORS: Final = ("logits", "labels", "sample_weights")
ID_LENGTH: Final = 256


@dataclass(frozen=True, slots=True)
class Inference:
    """One decoded request.

    Attributes:
        id: what the sender calls it, and the answer repeats.
        inputs: their names, in the order of the request.
        asked: the outputs that are asked for.
        payload: the batch, and the document that asks for what the outputs need.
    """

    id: str | None
    inputs: tuple[str, ...]
    asked: tuple[Asked, ...]
    payload: Payload


def decode(
    body: Body,
    length: int | None,
    model: Model,
    limits: Limits,
    regions: Regions,
    arrived: Callable[[int], None] = all_there,
) -> Inference:
    """Decode a request. Only the logits may still be arriving, and only if they come last.

    Args:
        body: JSON, and binary data behind it.
        length: bytes of the JSON; ``None`` where it is all there is.
        model: what is asked.
        limits: of the batch.
        regions: of shared memory.
        arrived: waits for the first bytes of the body.

    Raises:
        Malformed: no request, or lengths, sizes and shapes that do not fit the bytes.
        NotOffered: inputs, outputs or ways to send them that are not there.
        TooLarge: a batch above ``limits``.
        InvalidDocument: a request whose numbers are none, or whose parameters are unknown.
    """
    end = header_end(length, len(body))
    arrived(end)
    text = Body(body[:end])
    root = parse(text)
    if not isinstance(root, Object):
        raise Malformed("a request is a JSON object")
    entries = entries_of(root, "")
    if not entries.keys() <= set(FIELDS):
        raise Malformed(f"a request has the fields {', '.join(FIELDS)}, and no others")
    plain = Plain(limits.document_entries)
    for name in ("id", "parameters", "model_name", "model_version"):
        plain.value(entries.get(name), f"/{name}", 2)
    parameters = scalars(entries.get("parameters"), "/parameters")
    asked = asked_outputs(entries.get("outputs"), parameters, model, plain)
    document = document_of(parameters, model)
    needs = dict.fromkeys(each.output.needs for each in asked if each.output.needs is not None)
    document["outputs"] = list(needs)

    inputs = _Inputs(_declared(entries.get("inputs"), model, plain), limits, document)
    blobs = None if length is None else Blobs(end, len(body))
    received = Received(body, arrived)
    inputs.locate(blobs, received, regions)
    if blobs is not None:
        blobs.finish()
    _check_gradient(asked, document, inputs.logits)
    inputs.read(text, plain, received)
    return Inference(
        _id(entries.get("id")),
        tuple(each.name for each in inputs.declared),
        asked,
        inputs.payload(),
    )


class _Inputs:
    """The inputs of one request, on their way from declarations to tensors."""

    def __init__(
        self, declared: Sequence[Declared], limits: Limits, document: dict[str, object]
    ) -> None:
        self.declared = declared
        self.logits = next(each for each in declared if each.name == "logits")
        self._limits = limits
        self._document = document
        self._class_axis = document.get("class_axis", 1)
        self._bytes: dict[str, Bytes] = {}
        self._tensors: dict[str, Tensor] = {}
        self._await_rows: Callable[[int], None] = all_there

    def locate(self, blobs: Blobs | None, received: Received, regions: Regions) -> None:
        """Find the bytes of every input, and check them against the limits."""
        for each in self.declared:
            found = located(each, blobs, received, regions, self._check)
            if found is not None:
                self._bytes[each.name] = found

    def _check(self, declared: Declared) -> None:
        self._limits.check(declared.name, declared.shape, self._class_axis)
        if declared.name not in TENSORS:
            _check_list(declared, self._limits)

    def read(self, text: Body, plain: Plain, received: Received) -> None:
        """Make tensors of all, once all but the logits are there."""
        reader = TensorReader(self._limits, self._class_axis)
        in_json = [each for each in self.declared if each.name not in self._bytes]
        for each in in_json:
            self._tensors[each.name] = read_json(each, reader)
        if in_json:
            reader.refuse_hidden_nesting(text, known_arrays=plain.arrays, brackets=plain.brackets)
        self._wait(received)
        for each in self.declared:
            if each.name in self._bytes:
                self._tensors[each.name] = self._bytes[each.name].tensor(each)

    def _wait(self, received: Received) -> None:
        """Wait for what is read now: all, unless the logits can be read as they come."""
        size = len(received.body)
        logits, found = self.logits, self._bytes.get("logits")
        if found is None:
            received.arrived(size)
            return
        axis = self._class_axis
        last = found.in_body and found.begin + logits.size == size
        early = rows_are_in_order(logits.shape, axis) and found.aligned(logits)
        received.arrived(found.begin if early and last else size)
        if not early:
            found.await_bytes(logits.size)
            return

        def await_rows(rows: int) -> None:  # without self, which would hold it and be held
            found.await_bytes(bytes_of_rows(logits.shape, axis, logits.size, rows))

        self._await_rows = await_rows

    def payload(self) -> Payload:
        """Return the batch, and the document with those settings that came as inputs."""
        lists = {
            name: tensor.tolist() for name, tensor in self._tensors.items() if name not in TENSORS
        }
        return Payload(
            {**self._document, "settings": self._settings(lists)},
            self._tensors["logits"],
            self._tensors["labels"],
            self._tensors.get("sample_weights"),
            await_rows=self._await_rows,
        )

    def _settings(self, lists: Mapping[str, object]) -> dict[str, object]:
        settings = self._document["settings"]
        given = settings if isinstance(settings, Mapping) else {}
        twice = given.keys() & lists.keys()
        if twice:
            raise Malformed(f"{min(twice)} is given twice: as a parameter and as an input")
        return {**given, **lists}


def _declared(value: Value, model: Model, plain: Plain) -> list[Declared]:
    if not isinstance(value, Array):
        raise Malformed("/inputs is no list")
    plain.arrays += 1
    if len(value) > len(model.inputs):
        raise Malformed(f"/inputs has {len(value)} entries, more than there are inputs")
    found = [declare(each, place, model, plain) for place, each in enumerate(value)]
    names = [each.name for each in found]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise Malformed(f"/inputs/{place}: {name} is given twice")
    for name in REQUIRED:
        if name not in names:
            raise Malformed(f"input {name} is missing")
    return found


def _check_list(declared: Declared, limits: Limits) -> None:
    """Check a setting that comes as an input: it becomes as many Python numbers."""
    if len(declared.shape) != 1:
        raise Malformed(f"{declared.name} is a list of numbers, not of shape {declared.shape}")
    if declared.shape[0] > limits.document_entries:
        raise TooLarge(f"{declared.name} has more than {limits.document_entries} entries")


def _check_gradient(
    asked: Sequence[Asked], document: Mapping[str, object], logits: Declared
) -> None:
    """Refuse, before anything is computed, a gradient that could not be sent."""
    stated = document.get("gradient_dtype")
    dtype = f"torch.{stated}" if isinstance(stated, str) else str(logits.dtype)
    if dtype != str(DTYPES[BINARY_ONLY]):
        return
    if any(each.output.name == GRADIENT and not each.binary for each in asked):
        raise NotOffered(f"{BINARY_ONLY} has no JSON form: ask for {GRADIENT} as binary data")


def _id(value: Value) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > ID_LENGTH:
        raise Malformed(f"/id is no string of at most {ID_LENGTH} characters")
    return value
