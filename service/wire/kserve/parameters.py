"""The parameters of a request, and of its tensors: scalars by name."""

import re
from collections.abc import Mapping
from typing import Final

from simdjson import Array, Object

from service.errors import Malformed, escape, invalid
from service.wire.document import Value, entries_of
from service.wire.kserve.model import Model

NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
BINARY_OUTPUT: Final = "binary_data_output"
# Meant for schedulers and transports that are not here, and no settings of a loss. content_type is
# how MLServer's clients say what their tensors were made of.
RESERVED: Final = re.compile(
    r"sequence_(id|start|end)|priority|timeout|headers|binary_data_output|content_type|triton_.*"
)


def scalars(value: Value, pointer: str) -> dict[str, object]:
    """Return parameters; none where there are none.

    Raises:
        Malformed: no object, a name that is none, or a value that is no scalar.
    """
    if value is None:
        return {}
    if not isinstance(value, Object):
        raise Malformed(f"{pointer} is no object")
    entries = entries_of(value, pointer)
    for name, entry in entries.items():
        if not NAME.fullmatch(name):
            raise Malformed(f"{pointer}/{escape(name)}: a name matches {NAME.pattern}")
        if isinstance(entry, Array | Object):
            raise Malformed(
                f"{pointer}/{escape(name)} is no scalar: lists come as inputs of the same name"
            )
    return dict(entries)


def flag(parameters: Mapping[str, object], name: str, *, default: bool) -> bool:
    """Return a parameter that is true or false.

    Raises:
        Malformed: it is something else.
    """
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise Malformed(f"parameter {name} is neither true nor false")
    return value


def size(parameters: Mapping[str, object], name: str) -> int | None:
    """Return a parameter that is a number of bytes; ``None`` where it is not given.

    Raises:
        Malformed: it is something else.
    """
    value = parameters.get(name)
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise Malformed(f"parameter {name} is no number of bytes")
    return value


def document_of(parameters: Mapping[str, object], model: Model) -> dict[str, object]:
    """Return the document that the parameters of a request say, but for its outputs.

    Raises:
        InvalidDocument: a parameter that this model has not.
    """
    document: dict[str, object] = {}
    settings: dict[str, object] = {}
    for name, value in parameters.items():
        if name in model.settings:
            settings[name] = value
        elif name in model.options:
            document[name] = value
        elif not RESERVED.fullmatch(name):
            known = ", ".join([*model.settings, *model.options])
            raise invalid(f"/parameters/{name}", f"unknown parameter; known: {known}")
    return {**document, "settings": settings}
