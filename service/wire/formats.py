"""The registry of media types: what a request is in, and what its answer shall be in."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from service.errors import UnsupportedMediaType
from service.wire import json, safetensors
from service.wire.payload import Body, Limits, Payload


@dataclass(frozen=True, slots=True)
class Format:
    """A media type, both ways.

    Attributes:
        decode: from a body whose bytes may still arrive; what it is given last waits for them.
        overlaps: whether decoding and evaluating can go on before the last bytes are there.
        per_class_limit: classes listed where the request does not say how many; ``None`` all.
    """

    media_type: str
    decode: Callable[[Body, Limits, Collection[str], Callable[[int], None]], Payload]
    encode: Callable[[Mapping[str, object]], Sequence[bytes | memoryview]]
    overlaps: bool
    per_class_limit: int | None


JSON: Final = Format(
    json.MEDIA_TYPE, json.decode, json.encode, overlaps=False, per_class_limit=1000
)
SAFETENSORS: Final = Format(
    safetensors.MEDIA_TYPE,
    safetensors.decode,
    safetensors.encode,
    overlaps=True,
    per_class_limit=None,
)
FORMATS: Final[Mapping[str, Format]] = {each.media_type: each for each in (JSON, SAFETENSORS)}


def request_format(content_type: str | None) -> Format:
    """Return the format of a ``Content-Type``.

    Raises:
        UnsupportedMediaType: it is none of ours, or JSON in another character set than UTF-8.
    """
    media_type, _, parameters = (content_type or "").partition(";")
    chosen = FORMATS.get(media_type.strip().lower())
    charset = parameters.lower().replace(" ", "").replace('"', "")
    if chosen is None or charset not in {"", "charset=utf-8"}:
        raise UnsupportedMediaType(
            f"content type not supported; supported: {', '.join(FORMATS)} (in UTF-8)"
        )
    return chosen


def answer_format(accept: str | None) -> Format:
    """Return the format of an answer: JSON, unless safetensors is named and preferred to it."""
    quality = {JSON.media_type: 0.0, SAFETENSORS.media_type: 0.0}
    for entry in (accept or "").split(","):
        media_type, *parameters = (part.strip().lower() for part in entry.split(";"))
        if media_type in quality:
            quality[media_type] = _quality(parameters)
    return SAFETENSORS if quality[SAFETENSORS.media_type] > quality[JSON.media_type] else JSON


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
