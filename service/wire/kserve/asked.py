"""Which outputs a request asks for, and how each shall come."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from simdjson import Array, Object

from service.errors import Malformed, NotOffered
from service.wire.document import Plain, Value, entries_of
from service.wire.kserve.model import Model, Output
from service.wire.kserve.outputs import DEFAULT
from service.wire.kserve.parameters import BINARY_OUTPUT, NAME, flag, scalars
from service.wire.kserve.tensors import BINARY, REGION

FIELDS: Final = ("name", "parameters")


@dataclass(frozen=True, slots=True)
class Asked:
    """An output that is asked for.

    Attributes:
        output: which one.
        binary: whether it comes as binary data behind the JSON.
        pointer: where the request asks for it.
    """

    output: Output
    binary: bool
    pointer: str


def asked_outputs(
    value: Value, parameters: Mapping[str, object], model: Model, plain: Plain
) -> tuple[Asked, ...]:
    """Return the outputs that a request asks for; the loss where it names none.

    Raises:
        Malformed: no outputs, or one that is asked for twice.
        NotOffered: one that the model has not, or in a way that is not there.
    """
    binary = flag(parameters, BINARY_OUTPUT, default=False)
    if not isinstance(value, Array | None):
        raise Malformed("/outputs is no list")
    if value is not None:
        plain.arrays += 1
        if len(value) > len(model.outputs):
            raise Malformed(f"/outputs has {len(value)} entries, more than there are outputs")
    if not value:
        return (Asked(model.outputs[DEFAULT], binary, "/outputs"),)
    found = [_asked(each, place, model, plain, binary) for place, each in enumerate(value)]
    names = [each.output.name for each in found]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise Malformed(f"/outputs/{place}: {name} is asked for twice")
    return tuple(found)


def _asked(value: Value, place: int, model: Model, plain: Plain, binary: bool) -> Asked:
    pointer = f"/outputs/{place}"
    if not isinstance(value, Object):
        raise Malformed(f"{pointer} is no object")
    plain.value(value, pointer, 3)
    entries = entries_of(value, pointer)
    if not entries.keys() <= set(FIELDS):
        raise Malformed(f"{pointer} has other fields than {', '.join(FIELDS)}")
    name = entries.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Malformed(f"{pointer}/name: a name matches {NAME.pattern}")
    if name not in model.outputs:
        known = ", ".join(model.outputs)
        raise NotOffered(f"{model.name} has no output {name}; it has {known}")
    parameters = scalars(entries.get("parameters"), f"{pointer}/parameters")
    if REGION in parameters:
        raise NotOffered(f"{pointer}: shared memory is read only, outputs come in the answer")
    if "classification" in parameters:
        raise NotOffered(f"{pointer}: classification is not offered")
    return Asked(model.outputs[name], flag(parameters, BINARY, default=binary), pointer)
