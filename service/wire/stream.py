"""A body that is read piece by piece: what reads it, what it is handed to, and on which terms."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from service.wire.payload import Limits, Payload
from service.wire.piece import Piece


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive entries of a batch along its first axis; of use until the next piece is read.

    ``sample_ids`` name the rows.
    """

    logits: Tensor
    labels: Tensor
    sample_weights: Tensor | None = None
    sample_ids: Sequence[str | int] | None = None


class Consumer(Protocol):
    """What a stream hands its rows to, having said once what kind of batch they are of."""

    def known(self, payload: Payload) -> bool:
        """Take a batch of which all but the logits is there; they are on the meta device.

        Returns:
            whether parts must stay as they are to the end, each in memory of its own.
        """
        ...

    def unknown(self, payload: Payload) -> bool:
        """Take a batch of which no row is known; its tensors say classes and types only.

        Returns:
            whether parts must stay as they are to the end, each in memory of its own.
        """
        ...

    def add(self, part: Part) -> None:
        """Take the next rows."""
        ...

    def whole(self, payload: Payload) -> None:
        """Take a batch that has to be, and is, in memory or mapped as a whole."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a body is read.

    Attributes:
        limits: of the batch.
        fields: names that the document may have.
        length: bytes of the body, where they are known beforehand.
        body_bytes: most bytes of the body.
        message_bytes: most bytes of what is read as one: a record batch, an entry of logits.
        spool_bytes: most bytes that are kept in memory until all of them are there.
        folder: where more than that is kept.
    """

    limits: Limits
    fields: Collection[str]
    length: int | None
    body_bytes: int
    message_bytes: int
    spool_bytes: int
    folder: Path


class Stream(Protocol):
    """Reads a body piece by piece; after an error it is only closed."""

    @property
    def document(self) -> Mapping[str, object] | None:
        """The request's document as it came, once it has been read."""
        ...

    def push(self, piece: Piece) -> None:
        """Read the next piece.

        Raises:
            ServiceError, XentError: as soon as the bytes show that there will be no answer.
        """
        ...

    def finish(self) -> None:
        """Say that the piece before was the last one.

        Raises:
            Malformed: it should not have been.
        """
        ...

    def close(self) -> None:
        """Give back what is kept outside of memory."""
        ...


OpenStream = Callable[[Consumer, Terms], Stream]
