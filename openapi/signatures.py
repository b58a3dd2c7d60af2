"""``python -m openapi.signatures``: print ``xent/variants.py``, the client's typed signatures.

Made of ``openapi.json``: one dictionary type per variant with its settings, one for what every
request may say, and one overload of ``loss`` for each variant.
"""

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

DOCUMENT: Final = Path(__file__).parent / "openapi.json"
WIDTH: Final = 100
ROUTE: Final = "/loss/"
BY_HAND: Final = ("logits", "labels", "sample_weights", "settings", "track")
"""Members of a request that are arguments of their own."""

HEAD: Final = '''\
"""Variants and their settings. Generated from openapi/openapi.json by `make signatures`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, Literal, Required, TypedDict, TypeVar, Unpack, overload

from numpy.typing import NDArray

from xent.bodies import Progress
from xent.tracking import Track

R_co = TypeVar("R_co", covariant=True)
Reals = Sequence[float] | NDArray[Any]
Integers = Sequence[int] | NDArray[Any]
Texts = Sequence[str] | NDArray[Any]
Ids = Sequence[str | int] | NDArray[Any]
'''

OPTIONS: Final = '''
class Options(TypedDict, total=False):
    """What every evaluation may be told."""

    sample_weights: object
    """One weight per row: an array of any library."""

    track: Track
    """Has the history remember the batch."""

    progress: Progress
    """Told how many bytes were sent, and of how many where that is known."""
'''

LOSS: Final = '''\
    def loss(
        self,
        variant: str,
        logits: object,
        labels: object = None,
        **given: Any,
    ) -> R_co:
        """Return the loss of a batch under one variant.

        Args:
            variant: its name, ``focal`` say.
            logits: shape (N,), (N, C) or (N, C, d1..dk): an array of NumPy, PyTorch, JAX or
                whoever speaks DLPack, a frame or column of pandas, polars or Arrow, or lists.
                Without ``labels``: a mapping or table that holds ``logits`` and ``label``, or an
                iterable of such chunks or ``(logits, labels)``, which is sent as it comes.
            labels: classes, or the logits' shape.
            given: the variant's settings, and what every evaluation may be told: ``outputs``,
                ``reduction``, ``sample_weights``, ``track``, ...

        Raises:
            InvalidBatch: it cannot be sent.
            Problem: the service says why not.
            NoAnswer: nobody answered.
        """
        return self._loss(variant, logits, labels, given)

    def _loss(self, variant: str, logits: object, labels: object, given: Mapping[str, Any]) -> R_co:
        raise NotImplementedError
'''


def text(document: Mapping[str, Any]) -> str:
    """Return the module."""
    schemas = document["components"]["schemas"]
    slugs = [path.removeprefix(ROUTE) for path in document["paths"] if path.startswith(ROUTE)]
    requests = {slug: schemas[f"{camel(slug)}Request"] for slug in slugs}
    options = {
        name: schema
        for name, schema in requests[slugs[0]]["properties"].items()
        if name not in BY_HAND
    }
    settings = {slug: schemas[f"{camel(slug)}Settings"] for slug in slugs}
    shared = {name for each in settings.values() for name in each["properties"]} & set(options)
    if shared:
        raise SystemExit(f"settings and options have names in common: {', '.join(shared)}")
    parts = [
        HEAD,
        _names("VARIANTS", slugs),
        _names("OPTIONS", list(options)),
        _table(settings),
        OPTIONS + "".join(_member(name, each, required=False) for name, each in options.items()),
        *(_dictionary(slug, settings[slug]) for slug in slugs),
        _losses(slugs),
    ]
    return "\n".join(parts)


def camel(slug: str) -> str:
    """Return the name of a variant as a class has it."""
    return "".join(part.capitalize() for part in slug.split("-"))


def _names(name: str, values: list[str]) -> str:
    lines = "".join(f'    "{value}",\n' for value in values)
    return f"{name}: Final = (\n{lines})"


def _table(settings: Mapping[str, Any]) -> str:
    lines = []
    for slug, schema in settings.items():
        names = ", ".join(f'"{name}"' for name in schema["properties"])
        comma = "," if len(schema["properties"]) == 1 else ""
        lines.append(f'    "{slug}": ({names}{comma}),\n')
    return "SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {\n" + "".join(lines) + "}\n"


def _dictionary(slug: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    members = "".join(
        _member(name, each, required=name in required)
        for name, each in schema["properties"].items()
    )
    head = f"class {camel(slug)}(Options, total=False):"
    return f'\n{head}\n    """Settings of ``{slug}``."""\n{members}'


def _member(name: str, schema: Mapping[str, Any], *, required: bool) -> str:
    kind = _type(schema)
    description = schema.get("description", "").rstrip(".")
    if not required and "default" in schema:
        description += f"; default {json.dumps(schema['default'])}"
    description = re.sub(r"\bnull\b", "None", description[:1].upper() + description[1:] + ".")
    lines = textwrap.wrap(f'"""{description}', WIDTH - 8)
    said = "\n    ".join(lines) + ('"""' if len(lines) == 1 else '\n    """')
    return f"\n    {name}: {f'Required[{kind}]' if required else kind}\n    {said}\n"


def _type(schema: Mapping[str, Any]) -> str:
    """Return the annotation of a JSON schema."""
    members = schema.get("anyOf", [schema])
    values = [value for each in members for value in each.get("enum", _constant(each))]
    if len(members) > 1:
        others = [_type(each) for each in members if not {"enum", "const"} & set(each)]
        literal = [_literal(values)] if values else []
        return " | ".join(dict.fromkeys([*literal, *others]))
    if values:
        return _literal(values)
    if schema["type"] == "array":
        return _sequence(schema["items"])
    return {
        "number": "float",
        "integer": "int",
        "string": "str",
        "boolean": "bool",
        "null": "None",
    }[schema["type"]]


def _constant(schema: Mapping[str, Any]) -> list[object]:
    return [schema["const"]] if "const" in schema else []


def _literal(values: list[object]) -> str:
    return f"Literal[{', '.join(json.dumps(value) for value in values)}]"


def _sequence(items: Mapping[str, Any]) -> str:
    if "anyOf" in items:
        return "Ids"
    if "enum" in items:
        return f"Sequence[{_type(items)}]"
    return {"number": "Reals", "integer": "Integers", "string": "Texts"}[items["type"]]


def _losses(slugs: list[str]) -> str:
    return (
        "\nclass Losses(Generic[R_co]):\n"
        '    """``loss``, with the settings of each variant as its keywords."""\n\n'
        + "".join(_overloads(slugs))
        + LOSS
    )


def _overloads(slugs: list[str]) -> Iterator[str]:
    for slug in slugs:
        yield (
            "    @overload\n"
            "    def loss(\n"
            "        self,\n"
            f'        variant: Literal["{slug}"],\n'
            "        logits: object,\n"
            "        labels: object = None,\n"
            f"        **given: Unpack[{camel(slug)}],\n"
            "    ) -> R_co: ...\n"
        )


def formatted(code: str) -> str:
    """Return code as `make format` lays it out."""
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", "variants.py", "-"]
    return subprocess.run(  # noqa: S603  (a fixed command)
        command, input=code, capture_output=True, text=True, check=True
    ).stdout


if __name__ == "__main__":
    sys.stdout.write(formatted(text(json.loads(DOCUMENT.read_text()))))
