"""A stream read as a whole: for batches that were kept, which are small enough."""

from itertools import chain

import torch
from torch import Tensor

from service.wire.payload import Body, Payload
from service.wire.piece import Piece
from service.wire.stream import OpenStream, Part, Terms


class Gathering:
    """Takes the rows of a stream together; a :class:`service.wire.stream.Consumer`."""

    def __init__(self) -> None:
        self._batch: Payload | None = None
        self._parts: list[Part] = []

    def known(self, payload: Payload) -> bool:  # noqa: ARG002  (the protocol's)
        """Take a batch of which all but the logits is there."""
        raise AssertionError("formats whose logits come last are decoded as a whole")

    def unknown(self, payload: Payload) -> bool:
        """Take a batch of which no row is known."""
        self._batch = payload
        return True

    def add(self, part: Part) -> None:
        """Take the next rows."""
        self._parts.append(part)

    def whole(self, payload: Payload) -> None:  # noqa: ARG002  (the protocol's)
        """Take a batch that is all there."""
        raise AssertionError("formats that are read as a whole are decoded as a whole")

    def payload(self) -> Payload:
        """Return the batch; rows that came with their names have them in its document."""
        batch, parts = self._batch, self._parts
        if batch is None or batch.labels is None:
            raise AssertionError("a stream that was read to its end has its columns")
        names = [part.sample_ids for part in parts if part.sample_ids is not None]
        weights = [part.sample_weights for part in parts if part.sample_weights is not None]
        named = {"sample_ids": list(chain.from_iterable(names))} if names else {}
        return Payload(
            {**batch.document, **named},
            torch.cat([_none_of(batch.logits), *(part.logits for part in parts)]),
            torch.cat([_none_of(batch.labels), *(part.labels for part in parts)]),
            torch.cat(weights) if weights else None,
        )


def _none_of(column: Tensor) -> Tensor:
    return torch.empty_like(column, device="cpu")


def gathered(open_stream: OpenStream, body: Body, terms: Terms) -> Payload:
    """Return the batch that a stream holds. Raises what reading it raises."""
    gathering = Gathering()
    stream = open_stream(gathering, terms)
    try:
        stream.push(Piece.of(body))
        stream.finish()
    finally:
        stream.close()
    return gathering.payload()
