"""A stream read as a whole: for batches that were kept, which are small enough."""

from itertools import chain

import torch

from service.wire.payload import Body, Payload
from service.wire.piece import Piece
from service.wire.stream import OpenStream, Part, Terms


class Gathering:
    """Takes the rows of a stream together; a :class:`service.wire.stream.Consumer`."""

    def __init__(self) -> None:
        self._payload: Payload | None = None
        self._parts: list[Part] = []

    def known(self, payload: Payload) -> bool:  # noqa: ARG002  (the protocol's)
        """Take a batch of which all but the logits is there."""
        raise AssertionError("formats whose logits come last are decoded as a whole")

    def unknown(self, payload: Payload) -> bool:
        """Take a batch of which no row is known."""
        self._payload = payload
        return True

    def add(self, part: Part) -> None:
        """Take the next rows."""
        self._parts.append(part)

    def whole(self, payload: Payload) -> None:
        """Take a batch that is all there."""
        self._payload = payload

    def payload(self) -> Payload:
        """Return the batch; rows that came with their names have them in its document."""
        payload, parts = self._payload, self._parts
        if payload is None:
            raise AssertionError("asked for once the stream is read")
        if payload.coming is None:
            return payload
        names = [part.sample_ids for part in parts if part.sample_ids is not None]
        weights = [part.sample_weights for part in parts if part.sample_weights is not None]
        logits = torch.empty_like(payload.logits, device="cpu")
        labels = torch.empty_like(payload.labels, device="cpu")  # type: ignore[arg-type]  # columns
        return Payload(
            {**payload.document, "sample_ids": list(chain.from_iterable(names))}
            if payload.coming.named
            else payload.document,
            torch.cat([logits, *(part.logits for part in parts)]),
            torch.cat([labels, *(part.labels for part in parts)]),
            torch.cat(weights) if weights else None,
        )


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
