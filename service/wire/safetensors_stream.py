"""A safetensors body piece by piece: what comes before the logits is kept, rows are passed on.

The logits may come last, row after row. Otherwise, and where labels or weights have other entries
along their first axis than the logits, the whole body is kept: see :mod:`service.wire.spool`.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from service.errors import TooLarge
from service.wire.buffer import Buffer
from service.wire.entries import Entries
from service.wire.payload import Body, Payload, view
from service.wire.piece import Piece
from service.wire.safetensors_header import (
    LENGTH_BYTES,
    Entry,
    Header,
    check_length,
    header_end,
    read_header,
)
from service.wire.spool import Spool
from service.wire.stream import Consumer, Part, Terms


class SafetensorsStream:
    """Reads one body, and hands its rows to the consumer as they come."""

    def __init__(self, consumer: Consumer, terms: Terms) -> None:
        self._consumer = consumer
        self._terms = terms
        self._size = 0
        self._text = Buffer(limit=terms.body_bytes)
        self._read: Callable[[Piece, int], int] = self._read_text
        self._spool: Spool | None = None
        self.document: Mapping[str, object] | None = None

    def push(self, piece: Piece) -> None:
        """Read the next piece.

        Raises:
            ServiceError, XentError: as soon as the bytes show that there will be no answer.
        """
        at = piece.begin
        self._size += piece.end - at
        while at < piece.end:
            at += self._read(piece, at)

    def finish(self) -> None:
        """Say that the piece before was the last one.

        Raises:
            Malformed: the body ends before its tensors do.
        """
        if self._read == self._read_text:
            header_end(self._text.body(), self._size)
        check_length(self._header.data_bytes, self._size - self._start)

    def close(self) -> None:
        """Give the temporary file back."""
        if self._spool is not None:
            self._spool.close()
        self._spool = None
        self._others: Mapping[str, Tensor] = {}

    def _read_text(self, piece: Piece, at: int) -> int:
        """Keep bytes until the header is there."""
        text = self._text
        wanted = LENGTH_BYTES
        if text.size >= LENGTH_BYTES:
            wanted = header_end(text.body(), self._terms.length)
        taken = min(wanted - text.size, piece.end - at)
        text.append(piece.memory[at : at + taken].data)
        if text.size >= LENGTH_BYTES and text.size == header_end(text.body(), self._terms.length):
            self._begin(Body(text.body()[LENGTH_BYTES:]))
        return taken

    def _begin(self, text: Body) -> None:
        """Decide by the header how the rest is read."""
        terms = self._terms
        self._start = LENGTH_BYTES + len(text)
        self._header = header = read_header(text, terms.limits, terms.fields)
        self.document = header.document
        if terms.length is not None:
            check_length(header.data_bytes, terms.length - self._start)
        if self._start + header.data_bytes > terms.body_bytes:
            raise TooLarge(f"the body has more than {terms.body_bytes} bytes")
        self._in_rows = _is_read_in_rows(header, terms.message_bytes)
        kept = header.logits.begin if self._in_rows else header.data_bytes
        self._spool = Spool(kept, memory=terms.spool_bytes, folder=terms.folder)
        self._left = kept
        self._read = self._read_kept
        if not kept:
            self._kept_all()

    def _read_kept(self, piece: Piece, at: int) -> int:
        """Keep bytes until all are there that have to be."""
        taken = min(self._left, piece.end - at)
        self._spool.append(Body(piece.memory[at : at + taken]))  # type: ignore[union-attr]
        self._left -= taken
        if not self._left:
            self._kept_all()
        return taken

    def _kept_all(self) -> None:
        self._read = self._read_too_much
        body = self._spool.body()  # type: ignore[union-attr]  # made with the header
        tensors = {
            name: view(body, entry.begin, entry.shape, entry.dtype)
            for name, entry in self._header.entries.items()
            if entry.end <= len(body)
        }
        document, logits = self._header.document, self._header.logits
        if not self._in_rows:
            self._consumer.whole(Payload.of(document, tensors, await_rows=self._forget))
            return
        tensors["logits"] = torch.empty(logits.shape, dtype=logits.dtype, device="meta")
        keep = self._consumer.known(Payload.of(document, tensors, await_rows=self._forget))
        size = logits.end - logits.begin
        self._rows = Entries(size // logits.shape[0], kept=size if keep else None)
        self._first = 0
        self._left = size
        self._others = tensors
        self._read = self._read_rows

    def _read_rows(self, piece: Piece, at: int) -> int:
        """Pass on the rows that are complete."""
        taken = min(self._left, piece.end - at)
        self._left -= taken
        memory, start, entries = self._rows.take(piece, at, at + taken)
        if entries:
            logits = self._header.logits
            shape = (entries, *logits.shape[1:])
            rows = slice(self._first, self._first + entries)
            weights = self._others.get("sample_weights")
            self._first += entries
            self._consumer.add(
                Part(
                    view(memory, start, shape, logits.dtype),
                    self._others["labels"][rows],
                    None if weights is None else weights[rows],
                )
            )
            self._forget(0)
        if not self._left:
            self._read = self._read_too_much
        return taken

    def _read_too_much(self, piece: Piece, at: int) -> int:
        return piece.end - at  # counted, and refused in the end

    def _forget(self, _: int) -> None:
        self._spool.forget()  # type: ignore[union-attr]  # made with the header


def _is_read_in_rows(header: Header, most_bytes: int) -> bool:
    """Tell whether rows can be passed on as they come."""
    logits = header.logits
    return (
        header.rows_are_in_order
        and "labels" in header.entries
        and header.others_end <= logits.begin
        and _bytes_each(logits) <= most_bytes
        and all(
            entry.shape[:1] == logits.shape[:1]
            for name, entry in header.entries.items()
            if name in ("labels", "sample_weights")
        )
    )


def _bytes_each(logits: Entry) -> int:
    return math.prod(logits.shape[1:]) * logits.dtype.itemsize
