"""The parameters of ``GET /variants/{variant}/onnx``: what a graph is asked for, in a query."""

import re
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Field, create_model

from service.errors import Fault, InvalidDocument, TooLarge
from service.graphs.wanted import Wanted
from service.schema.names import INT64_MAX
from service.schema.validation import validate
from service.schema.variants import SettingsModel, camel
from xentcore import LABEL_KINDS, Variant

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?\d{1,300}", re.ASCII)
_NONE: Final = ("none", "null")
_OWN: Final[Mapping[str, Any]] = {
    "classes": (int, Field(..., ge=1)),
    "label_kind": (Literal[LABEL_KINDS] | None, None),
    "ignore_index": (Annotated[int, Field(ge=-INT64_MAX - 1, le=INT64_MAX)] | None, -100),
}


class GraphQuery:
    """Reads the parameters of one variant's graphs.

    Args:
        variant: whose.
        settings: the model of its settings.
        most_classes: that a graph may have.
    """

    def __init__(
        self, variant: Variant[Any], settings: type[SettingsModel], most_classes: int
    ) -> None:
        self._variant = variant
        self._most_classes = most_classes
        self._hints: dict[str, Any] = get_type_hints(variant.settings_type)
        self._model = create_model(f"{camel(variant.slug)}Graph", __base__=settings, **_OWN)

    def read(self, given: Sequence[tuple[str, str]]) -> Wanted:
        """Return what is asked for.

        Raises:
            InvalidDocument: naming every offending parameter.
            TooLarge: more classes than allowed.
            xentcore.InvalidSetting: what the core checks beyond types and ranges.
        """
        texts: dict[str, list[str]] = {}
        for name, text in given:
            texts.setdefault(name, []).append(text)
        self._check_names(texts)
        raw = {name: _read(self._hints.get(name, str), each) for name, each in texts.items()}
        values = dict(validate(self._model, raw))
        own = {name: values.pop(name) for name in _OWN}
        if own["classes"] > self._most_classes:
            raise TooLarge(f"{own['classes']} classes: at most {self._most_classes} are allowed")
        return Wanted(self._variant, self._variant.settings_type(**values), **own)

    def _check_names(self, texts: Mapping[str, Sequence[str]]) -> None:
        known = {**_OWN, **self._hints}
        words = f"is no parameter: known are {', '.join(known)}"
        faults = [Fault(f"/{name[:64]}", words) for name in texts if name not in known]
        faults += [
            Fault(f"/{name}", "is given more than once, and is no list")
            for name, each in texts.items()
            if name in known and len(each) > 1 and not _has(self._hints.get(name, str), tuple)
        ]
        if faults:
            raise InvalidDocument(faults)


def _read(hint: Any, texts: Sequence[str]) -> object:  # noqa: ANN401  (any annotation)
    """Return the value that a parameter stands for, of types as JSON has them.

    Lists are repeated parameters, or separated by commas. One entry is a list only where the
    setting may not be a number.
    """
    parts = [part.strip() for text in texts for part in text.split(",")]
    values = [_scalar(part) for part in parts]
    (first, *more) = values
    if not _has(hint, tuple):
        return _scalar(texts[0])
    is_list = more or (isinstance(first, int | float) and not _has(hint, float))
    return values if is_list else first


def _scalar(text: str) -> object:
    if text in _NONE:
        return None
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _has(hint: Any, kind: type) -> bool:  # noqa: ANN401  (any annotation)
    """Tell whether a setting may be of a kind, a list or a number."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_has(option, kind) for option in get_args(hint))
    return hint is kind or get_origin(hint) is kind
