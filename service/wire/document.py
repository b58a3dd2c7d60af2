"""JSON texts as plain values, for the documents of every media type; simdjson parses them."""

import re
from collections.abc import Collection
from typing import Any, Final

import numpy as np
from simdjson import Array, Object, Parser

from service.errors import Malformed, TooLarge, escape, invalid
from service.wire.payload import Body, Limits

KEYS: Final = 64  # more fields than any object of a request has
DEPTH: Final = 5  # /variants/0/settings/alpha/0: nothing in a document lies deeper
# What Python's json writes for numbers that JSON has not, where a number would stand.
_NO_NUMBER: Final = re.compile(rb"(?<=[\[,:\s])-?(?:NaN|Infinity|nan|inf)(?=[\],}\s])")

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})

Value = Array | Object | str | int | float | bool | None


def parse(body: Body) -> Value:
    """Parse one JSON text.

    Raises:
        Malformed: it is none, is not UTF-8, or nests too deep.
    """
    # A parser per text: one that is kept would hold memory for the largest text it ever saw.
    try:
        return Parser().parse(body.data)
    except UnicodeDecodeError:
        raise Malformed("the body is not JSON: it is not UTF-8") from None
    except (ValueError, RuntimeError) as error:
        raise Malformed(f"the body is not JSON: {_reason(str(error), body.data)}") from None


def entries_of(value: Object, pointer: str, known: Collection[str] = ()) -> dict[str, Value]:
    """Return the entries of an object.

    Raises:
        Malformed: a key that is given twice.
        InvalidDocument: a key that is not ``known`` (when any are), or more than any object has.
    """
    # Before any look-up, which walks the object: a million keys would be walked a million times.
    if len(value) > KEYS:
        raise invalid(pointer, f"has {len(value)} fields, more than {KEYS}")
    keys = list(value.keys())
    if len(set(keys)) != len(keys):
        raise Malformed(f"{pointer or 'the document'} names the same key twice")
    unknown = [key for key in keys if known and key not in known]
    if unknown:
        raise invalid(
            f"{pointer}/{escape(unknown[0])}", f"unknown field; known: {', '.join(known)}"
        )
    return {key: value[key] for key in keys}


class Plain:
    """Turns what is no tensor into plain values, and counts the lists and brackets it saw.

    Containers deeper than any document has are left empty: validation refuses them anyway.
    """

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._left = entries
        self.arrays = 0
        self.brackets = 0

    def value(self, value: Value, pointer: str, depth: int) -> object:
        """Return ``value`` as Python objects.

        Raises:
            TooLarge: more entries than allowed, so that no body becomes that many Python objects.
            Malformed: a key that is given twice.
        """
        if isinstance(value, Array):
            self.arrays += 1
            self._spend(len(value), pointer)
            return self._entries_of(list(value), pointer, depth - 1) if depth else []
        if isinstance(value, Object):
            if not depth:
                return {}
            self._spend(len(value), pointer)
            entries = entries_of(value, pointer)
            self.brackets += sum(name.count("[") for name in entries)
            return {
                name: self.value(entry, f"{pointer}/{name}", depth - 1)
                for name, entry in entries.items()
            }
        if isinstance(value, str):
            self.brackets += value.count("[")
        return value

    def _entries_of(self, entries: list[Any], pointer: str, depth: int) -> list[object]:
        kinds = set(map(type, entries))
        if not kinds <= _SCALARS:
            return [self.value(entry, pointer, depth) for entry in entries]
        # As with the names of all rows: to ask one after the other takes ten times as long.
        if str in kinds:
            self.brackets += sum(each.count("[") for each in entries if isinstance(each, str))
        return entries

    def _spend(self, entries: int, pointer: str) -> None:
        self._left -= entries
        if self._left < 0:
            raise TooLarge(
                f"{pointer}: the document has more than {self._entries} entries beside its tensors"
            )


def request_document(text: bytes, limits: Limits, fields: Collection[str]) -> dict[str, object]:
    """Return the document of a request whose tensors travel elsewhere.

    Raises:
        Malformed: not JSON.
        InvalidDocument: no object, or with fields other than ``fields``.
        TooLarge: more entries than allowed.
    """
    root = parse(Body(np.frombuffer(text, dtype=np.uint8)))
    if not isinstance(root, Object):
        raise invalid("", "the request is no JSON object")
    plain = Plain(limits.document_entries)
    return {
        name: plain.value(value, f"/{name}", DEPTH)
        for name, value in entries_of(root, "", known=fields).items()
    }


def _reason(message: str, data: memoryview) -> str:
    """Return what is wrong with a text: the commonest fault with its place, or simdjson's words."""
    found = _NO_NUMBER.search(data)
    if found is not None:
        return (
            f"{found[0].decode()} at byte {found.start()} is no number of JSON; send tensors that "
            "hold it as bytes: as base64, safetensors, or the inference protocol's binary data"
        )
    # Its sentence without its code: `NUMBER_ERROR: Problem while ...`.
    return message.partition(": ")[2].split(".")[0] or message
