"""Validation of documents: every offending part by its JSON pointer, and nothing echoed."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import Fault, InvalidDocument, escape

D = TypeVar("D", bound=BaseModel)


def validate(model: type[D], document: object) -> D:
    """Return the document as ``model``.

    Raises:
        InvalidDocument: naming every offending part, and echoing none.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidDocument(faults_of(error, document)) from None


def faults_of(error: ValidationError, document: object) -> list[Fault]:
    """Return what is wrong, one entry per place, with pointers into ``document``."""
    messages: dict[str, dict[str, None]] = {}  # a set that keeps its order
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        pointer = _pointer(each["loc"], document, missing=each["type"] == "missing")
        message = each["msg"][:1].lower() + each["msg"][1:]
        messages.setdefault(pointer, {})[message] = None
    # Of a union's members the one that got deepest is the one that was meant.
    outer = {pointer[:end] for pointer in messages for end in _ends(pointer)}
    return [
        Fault(pointer, ", or ".join(texts))
        for pointer, texts in messages.items()
        if pointer not in outer
    ]


def _ends(pointer: str) -> list[int]:
    """Return where the pointers of what encloses a place end."""
    return [index for index, character in enumerate(pointer) if character == "/"]


def _pointer(location: tuple[int | str, ...], document: object, *, missing: bool) -> str:
    """Return the JSON pointer of an error.

    Pydantic's locations also hold the names of the union members that it tried: they lead nowhere
    in the document and are left out.
    """
    tokens: list[str] = []
    here: Any = document
    for part in location[:-1] if missing else location:
        leads = part in here if isinstance(here, Mapping) else _is_index(part, here)
        if leads:
            here = here[part]
            tokens.append(escape(str(part)))
    if missing:
        tokens.append(str(location[-1]))
    return "".join(f"/{token}" for token in tokens)


def _is_index(part: int | str, here: object) -> bool:
    return isinstance(here, list) and isinstance(part, int) and part < len(here)
