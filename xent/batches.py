"""A batch as the body of a request: tensors as safetensors, tables and chunks as Arrow."""

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np

from xent import arrow, safetensors
from xent.arrays import GiveBack, give_back, logits_of, plain, tensor_of
from xent.bodies import Body
from xent.errors import InvalidBatch
from xent.safetensors import Buffer
from xent.tensors import Tensor

PLURAL: Final = {"logits": "logits", "label": "labels", "sample_weight": "sample_weights"}


@dataclass(frozen=True, slots=True)
class Batch:
    """What a caller passed.

    Attributes:
        logits: an array; or, without labels, a table, a mapping or chunks that hold both.
        labels: an array.
        sample_weights: an array, one entry per row.
        unlabelled: labels come later, so that logits alone are a batch.
    """

    logits: object
    labels: object = None
    sample_weights: object = None
    unlabelled: bool = False

    def body(self, document: Mapping[str, object]) -> tuple[Body, GiveBack]:
        """Return the body that carries it and the document, and who gets the answer's arrays.

        Raises:
            InvalidBatch: it cannot be sent.
        """
        if self.labels is not None or (self.unlabelled and hasattr(self.logits, "shape")):
            return _arrays(self._parts(), document), give_back(self.logits)
        if self.sample_weights is not None:
            raise InvalidBatch("sample_weights without labels: put them beside the logits")
        if isinstance(self.logits, Mapping) and not arrow.is_tabular(self.logits):
            parts = arrow.named(self.logits, 0)
            return _arrays(parts, document), give_back(parts["logits"])
        if arrow.is_tabular(self.logits):
            return _stream([self.logits], document, once=_is_used_up(self.logits)), Tensor.numpy
        return _chunks(self.logits, document)

    def _parts(self) -> dict[str, object]:
        values = (self.logits, self.labels, self.sample_weights)
        named = dict(zip(PLURAL, values, strict=True))
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Features:
    """What a caller passed for a model of the service to make logits of.

    Attributes:
        features: an array, or nested lists.
        labels: an array.
        sample_weights: an array, one entry per row.
        unlabelled: labels come later.
    """

    features: object
    labels: object = None
    sample_weights: object = None
    unlabelled: bool = False

    def body(self, document: Mapping[str, object]) -> tuple[Body, GiveBack]:
        """Return the body that carries it and the document, and who gets the answer's arrays.

        Raises:
            InvalidBatch: it cannot be sent.
        """
        if self.labels is None and not self.unlabelled:
            raise InvalidBatch("labels are missing")
        given = {
            "features": self.features,
            "labels": self.labels,
            "sample_weights": self.sample_weights,
        }
        tensors = {
            name: tensor_of(value, name) for name, value in given.items() if value is not None
        }
        return _tensors(tensors, document), give_back(self.features)


def _arrays(parts: Mapping[str, object], document: Mapping[str, object]) -> Body:
    said = dict(document)
    tensors = {}
    for name, value in parts.items():
        if name == "sample_id":
            said["sample_ids"] = plain(value)
            continue
        read = logits_of if name == "logits" else tensor_of
        tensors[PLURAL[name]] = read(value, PLURAL[name])
    return _tensors(tensors, said)


def _tensors(tensors: Mapping[str, Tensor], document: Mapping[str, object]) -> Body:
    parts = safetensors.write(tensors, {"request": json.dumps(document)})
    return Body.of(safetensors.MEDIA_TYPE, parts)


def _chunks(chunks: object, document: Mapping[str, object]) -> tuple[Body, GiveBack]:
    if isinstance(chunks, AsyncIterable):
        if not arrow.installed():
            raise InvalidBatch("chunks that come asynchronously need pyarrow to be streamed")
        return _async_stream(chunks, document), Tensor.numpy
    if not isinstance(chunks, Iterable) or isinstance(chunks, str | bytes | np.ndarray):
        raise InvalidBatch("labels are missing")
    if arrow.installed():
        return _stream(chunks, document, once=iter(chunks) is chunks), Tensor.numpy
    return _arrays(_collected(chunks), document), Tensor.numpy


def _is_used_up(table: object) -> bool:
    """Tell whether a table can be read once only, as a reader of record batches can."""
    return hasattr(table, "read_next_batch")


def _stream(chunks: Iterable[object], document: Mapping[str, object], *, once: bool) -> Body:
    def parts() -> Iterator[Buffer]:
        encoder = arrow.Encoder(document)
        for chunk in chunks:
            yield from encoder.add(chunk)
        yield from encoder.end()

    return Body(arrow.MEDIA_TYPE, parts, once=once)


def _async_stream(chunks: AsyncIterable[object], document: Mapping[str, object]) -> Body:
    async def parts() -> AsyncIterator[Buffer]:
        encoder = arrow.Encoder(document)
        async for chunk in chunks:
            for part in encoder.add(chunk):
                yield part
        for part in encoder.end():
            yield part

    return Body(arrow.MEDIA_TYPE, parts, once=isinstance(chunks, AsyncIterator))


def _collected(chunks: Iterable[object]) -> dict[str, object]:
    """Return all chunks as one batch: safetensors needs to know the size beforehand."""
    found: dict[str, list[Any]] = {}
    for number, chunk in enumerate(chunks):
        if arrow.is_tabular(chunk):
            arrow.Encoder({})  # says what is missing
        for name, value in arrow.named(chunk, number).items():
            parts = found.setdefault(name, [])
            if name == "sample_id":
                parts += cast("list[object]", plain(value))
            else:
                parts.append((logits_of if name == "logits" else tensor_of)(value, name))
    if not found:
        raise InvalidBatch("there is no chunk")
    return {
        name: parts if name == "sample_id" else _joined(parts, name)
        for name, parts in found.items()
    }


def _joined(tensors: list[Tensor], name: str) -> Tensor:
    if len({tensor.dtype for tensor in tensors}) > 1:
        raise InvalidBatch(f"chunks have {name} of several types")
    try:
        return Tensor(tensors[0].dtype, np.concatenate([tensor.values for tensor in tensors]))
    except ValueError as error:
        raise InvalidBatch(f"chunks have {name} of shapes that do not fit: {error}") from None
