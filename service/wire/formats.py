"""The registry of media types: what a request is in, and what its answer shall be in."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from service.errors import UnsupportedMediaType
from service.wire import arrow, features, json, safetensors
from service.wire.arrow import ArrowStream
from service.wire.encodings import Decoder, decoder_for
from service.wire.features import Features
from service.wire.payload import Body, LabelsPayload, Limits, Payload
from service.wire.safetensors_stream import SafetensorsStream
from service.wire.stream import OpenStream

T = TypeVar("T")
Decode = Callable[[Body, Limits, Collection[str], Callable[[int], None]], Payload]
DecodeLabels = Callable[[Body, Limits, Collection[str]], LabelsPayload]
DecodeFeatures = Callable[[Body, Limits, Collection[str]], Features]
Encode = Callable[[Mapping[str, object]], Sequence[bytes | memoryview]]


@dataclass(frozen=True, slots=True)
class Source:
    """A media type that requests come in: as a whole, as a stream, or as either.

    Attributes:
        decode: from a body whose bytes may still arrive; what it is given last waits for them.
        stream: from a body that comes piece by piece.
        overlaps: whether decoding and evaluating can go on before the last bytes are there.
        contained: whether a body holds all that is evaluated, so that a small one is little work.
    """

    media_type: str
    decode: Decode | None
    stream: OpenStream | None
    overlaps: bool
    contained: bool


@dataclass(frozen=True, slots=True)
class Format(Source):
    """A media type that answers come in, too.

    Attributes:
        per_class_limit: classes listed where the request does not say how many; ``None`` all.
    """

    encode: Encode
    per_class_limit: int | None


@dataclass(frozen=True, slots=True)
class Spoken:
    """In what one request comes, and in what it shall be answered.

    Attributes:
        source: what the body is, once it is decoded.
        decoder: undoes the body's content encoding.
        target: what the answer shall be in.
        aligned: the place in the body from which on numbers are read in place.
        relaid: where labels are to come, what waits for them in place of the body, in the
            source's media type.
    """

    source: Source
    decoder: Decoder
    target: Format
    aligned: int = 0
    relaid: Callable[[Payload], Body] | None = None


JSON: Final = Format(
    json.MEDIA_TYPE,
    json.decode,
    stream=None,
    overlaps=False,
    contained=True,
    encode=json.encode,
    per_class_limit=1000,
)
SAFETENSORS: Final = Format(
    safetensors.MEDIA_TYPE,
    safetensors.decode,
    stream=SafetensorsStream,
    overlaps=True,
    contained=True,
    encode=safetensors.encode,
    per_class_limit=None,
)
ARROW: Final = Source(
    arrow.MEDIA_TYPE, decode=None, stream=ArrowStream, overlaps=False, contained=False
)
SOURCES: Final[Mapping[str, Source]] = {
    each.media_type: each for each in (JSON, SAFETENSORS, ARROW)
}
LABELS: Final[Mapping[str, DecodeLabels]] = {
    json.MEDIA_TYPE: json.decode_labels,
    safetensors.MEDIA_TYPE: safetensors.decode_labels,
}

FEATURES: Final[Mapping[str, DecodeFeatures]] = {
    json.MEDIA_TYPE: features.from_json,
    safetensors.MEDIA_TYPE: features.from_safetensors,
    arrow.MEDIA_TYPE: features.from_arrow,
}


def spoken(headers: Mapping[str, str]) -> Spoken:
    """Return what the headers of a request name.

    Raises:
        UnsupportedMediaType: a media type or an encoding that is none of ours.
    """
    source = request_format(headers.get("content-type"))
    decoder = decoder_for(headers.get("content-encoding"))
    return Spoken(source, decoder, answer_format(headers.get("accept")))


def request_format(content_type: str | None) -> Source:
    """Return the format of a ``Content-Type``.

    Raises:
        UnsupportedMediaType: it is none of ours, or JSON in another character set than UTF-8.
    """
    return _chosen(SOURCES, content_type)


def labels_format(content_type: str | None) -> DecodeLabels:
    """Return what decodes labels that come without their logits.

    Raises:
        UnsupportedMediaType: as :func:`request_format` does.
    """
    return _chosen(LABELS, content_type)


def features_format(content_type: str | None) -> DecodeFeatures:
    """Return what decodes features, and the rest of a request, that logits are made of.

    Raises:
        UnsupportedMediaType: as :func:`request_format` does.
    """
    return _chosen(FEATURES, content_type)


def _chosen(known: Mapping[str, T], content_type: str | None) -> T:
    media_type, _, parameters = (content_type or "").partition(";")
    chosen = known.get(media_type.strip().lower())
    charset = parameters.lower().replace(" ", "").replace('"', "")
    if chosen is None or charset not in {"", "charset=utf-8"}:
        raise UnsupportedMediaType(
            f"content type not supported; supported: {', '.join(known)} (in UTF-8)"
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
