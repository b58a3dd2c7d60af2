"""``application/vnd.apache.arrow.stream``: record batches, evaluated one by one, without an end.

The schema says what a row is and holds the request's document; each record batch is checked against
the limits by its frame, and validated in full, before a number of it is read.
"""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa
import torch
from pyarrow import ipc

from service.errors import Malformed, invalid
from service.wire.arrow_columns import LOGITS, Columns, columns_of
from service.wire.arrow_message import (
    RECORD_BATCH,
    SCHEMA,
    Frame,
    bytes_needed,
    frame_of,
)
from service.wire.buffer import Buffer
from service.wire.document import request_document
from service.wire.payload import Body, Coming, Payload
from service.wire.piece import Piece
from service.wire.stream import Consumer, Terms

MEDIA_TYPE: Final = "application/vnd.apache.arrow.stream"
REQUEST: Final = b"request"  # the schema's metadata key of the document
ONLY_AXES: Final = (1, -1)


class ArrowStream:
    """Reads one stream, and hands its record batches to the consumer as they come.

    Args:
        consumer: takes them.
        terms: on which they are read.
        what: the column of numbers: logits, or features that are handed on in their place.
    """

    def __init__(self, consumer: Consumer, terms: Terms, what: str = LOGITS) -> None:
        self._what = what
        self._consumer = consumer
        self._terms = terms
        self._held = Buffer(limit=0, expected=0)  # the beginning of the next message
        self._schema: pa.Schema | None = None
        self._columns: Columns | None = None
        self._keep = False
        self._rows = 0
        self._ended = False
        self.document: Mapping[str, object] | None = None

    def push(self, piece: Piece) -> None:
        """Read the next piece.

        Raises:
            ServiceError, XentError: as soon as the bytes show that there will be no answer.
        """
        at = piece.begin
        while at < piece.end:
            if self._ended:
                raise Malformed("bytes follow the end of the Arrow stream")
            if self._held.size or self._keep:
                at = self._hold(piece, at)
            else:
                at = self._in_place(piece, at)

    def finish(self) -> None:
        """Say that the piece before was the last one.

        Raises:
            Malformed: the stream has not been ended.
        """
        if not self._ended:
            raise Malformed(
                "the Arrow stream is truncated: its end is marked, as closing a writer does"
            )

    def close(self) -> None:
        """Give nothing back: all is in memory."""

    def _in_place(self, piece: Piece, at: int) -> int:
        """Read a message that lies in the piece as a whole; return where the next one begins."""
        data = Body(piece.memory[at : piece.end])
        size = self._needed(data)
        if size > len(data):
            return self._hold(piece, at)
        self._message(Body(data[:size]))
        return at + size

    def _hold(self, piece: Piece, at: int) -> int:
        """Put bytes to those of the message before; return where the rest of the piece begins."""
        while at < piece.end:
            size = self._needed(self._held.body())
            if self._held.limit < size:
                grown = Buffer(limit=size, expected=size)
                grown.append(self._held.body().data)
                self._held = grown
            taken = min(size - self._held.size, piece.end - at)
            self._held.append(piece.memory[at : at + taken].data)
            at += taken
            held = self._held.body()
            if self._needed(held) <= len(held):
                if self._keep:
                    self._held = Buffer(limit=0, expected=0)
                else:
                    self._held.clear()
                self._message(held)
                return at
        return at

    def _needed(self, data: Body) -> int:
        return bytes_needed(data, self._terms.message_bytes)

    def _message(self, data: Body) -> None:
        frame = frame_of(data, self._terms.message_bytes)
        if not frame.kind:
            self._ended = True
            if self._columns is None:
                raise Malformed("the Arrow stream ends before its schema")
        elif self._columns is None:
            self._begin(frame, data)
        else:
            self._batch(frame, data, self._columns)

    def _begin(self, frame: Frame, data: Body) -> None:
        if frame.kind != SCHEMA:
            raise Malformed("an Arrow stream begins with its schema")
        if frame.big_endian:
            raise invalid("", "the numbers are big-endian: send them little-endian")
        try:
            schema = ipc.read_schema(ipc.read_message(pa.py_buffer(data)))
            _ = schema.names  # decoded on demand, and may be no UTF-8
        except (pa.ArrowException, OSError, ValueError) as error:
            raise Malformed("the schema of the Arrow stream is damaged") from error
        self._schema = schema
        text = (schema.metadata or {}).get(REQUEST, b"{}")
        document = request_document(text, self._terms.limits, self._terms.fields)
        if document.get("class_axis", 1) not in ONLY_AXES:
            raise invalid("/class_axis", "a row of a record batch has its classes along axis 1")
        if "sample_ids" in document:
            raise invalid("/sample_ids", "rows are named by the column sample_id")
        self.document = document
        self._columns = columns = columns_of(schema, self._what)
        self._terms.limits.check(self._what, (0, columns.classes), 1)
        self._keep = self._consumer.unknown(
            Payload(
                document,
                torch.empty(0, columns.classes, dtype=columns.logits.dtype, device="meta"),
                torch.empty(0, *columns.label.each, dtype=columns.label.dtype, device="meta"),
                coming=Coming(named=columns.ids),
            )
        )

    def _batch(self, frame: Frame, data: Body, columns: Columns) -> None:
        if frame.kind != RECORD_BATCH:
            raise Malformed("an Arrow stream has record batches behind its schema")
        if frame.compressed:
            raise invalid("", "compressed buffers are not read: send Content-Encoding instead")
        rows = self._rows + frame.rows
        if frame.rows < 0:
            raise Malformed("a record batch claims a negative number of rows")
        self._terms.limits.check(self._what, (rows, columns.classes), 1)
        try:
            batch = ipc.read_record_batch(ipc.read_message(pa.py_buffer(data)), self._schema)
            batch.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise Malformed("a record batch of the Arrow stream is damaged") from error
        self._consumer.add(columns.part(batch, data))
        self._rows = rows
