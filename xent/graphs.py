"""What a graph of a variant is asked for, as the parameters of a URL."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from xent.arrays import plain

LabelKind = Literal["integer", "one_hot", "probabilities", "multi_hot", "binary"]
NONE: Final = "none"


def graph_query(
    classes: int,
    label_kind: LabelKind | None,
    ignore_index: int | None,
    settings: Mapping[str, Any],
) -> dict[str, str]:
    """Return the parameters: lists with commas, ``none`` where nothing is."""
    given = {"classes": classes, "ignore_index": ignore_index, **settings}
    if label_kind is not None:
        given["label_kind"] = label_kind
    return {name: _text(plain(value)) for name, value in given.items()}


def _text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return NONE if value is None else str(value)
