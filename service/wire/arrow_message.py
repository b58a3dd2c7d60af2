"""The frame of an Arrow IPC message: how many bytes it takes, and what it is, before it is read."""

from dataclasses import dataclass
from typing import Final

from service.errors import Malformed, TooLarge
from service.wire.flatbuffer import Table
from service.wire.payload import Body

CONTINUATION: Final = b"\xff\xff\xff\xff"
PREFIX_BYTES: Final = 8  # the continuation and the length of the metadata
SCHEMA: Final = 1
RECORD_BATCH: Final = 3

# Fields by their place in Message.fbs and Schema.fbs.
_MESSAGE_KIND, _MESSAGE_HEADER, _MESSAGE_BODY_BYTES = 1, 2, 3
_BATCH_ROWS, _BATCH_COMPRESSION = 0, 3
_SCHEMA_ENDIANNESS = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """What a message says of itself.

    Attributes:
        kind: what it is; 0 for the end of the stream.
        size: bytes of all of it.
        rows: of a record batch.
        compressed: whether buffers of a record batch are.
        big_endian: whether the numbers of a schema are.
    """

    kind: int
    size: int
    rows: int = 0
    compressed: bool = False
    big_endian: bool = False


def bytes_needed(data: Body, most_bytes: int) -> int:
    """Return how many bytes have to be there to say more of a message that begins with ``data``.

    As many as there are, or fewer: the message is complete.

    Raises:
        Malformed: it is no message.
        TooLarge: it takes more than ``most_bytes``.
    """
    if len(data) < PREFIX_BYTES:
        return PREFIX_BYTES
    metadata_end = _metadata_end(data, most_bytes)
    if len(data) < metadata_end:
        return metadata_end
    return frame_of(data, most_bytes).size


def frame_of(data: Body, most_bytes: int) -> Frame:
    """Return the frame of a message whose metadata is there.

    Raises:
        Malformed: it is no message.
        TooLarge: it takes more than ``most_bytes``.
    """
    metadata_end = _metadata_end(data, most_bytes)
    if metadata_end == PREFIX_BYTES:
        return Frame(0, PREFIX_BYTES)
    message = Table.root(data[PREFIX_BYTES:metadata_end].data)
    kind = message.number(_MESSAGE_KIND, "<B")
    body_bytes = message.number(_MESSAGE_BODY_BYTES, "<q")
    if body_bytes < 0:
        raise Malformed("an Arrow message claims a negative number of bytes")
    size = _checked(metadata_end + body_bytes, most_bytes)
    header = message.table(_MESSAGE_HEADER)
    if kind == RECORD_BATCH:
        rows = header.number(_BATCH_ROWS, "<q")
        return Frame(kind, size, rows=rows, compressed=header.has(_BATCH_COMPRESSION))
    big_endian = kind == SCHEMA and header.number(_SCHEMA_ENDIANNESS, "<h") != 0
    return Frame(kind, size, big_endian=big_endian)


def _metadata_end(data: Body, most_bytes: int) -> int:
    prefix = data[:PREFIX_BYTES].tobytes()
    if not prefix.startswith(CONTINUATION):
        raise Malformed("no Arrow message begins here: each begins with the bytes FF FF FF FF")
    length = int.from_bytes(prefix[4:], "little", signed=True)
    if length < 0:
        raise Malformed("an Arrow message claims a negative number of bytes")
    return _checked(PREFIX_BYTES + length, most_bytes)


def _checked(size: int, most_bytes: int) -> int:
    if size > most_bytes:
        raise TooLarge(
            f"an Arrow message has {size} bytes, the limit is {most_bytes}: "
            "send record batches of fewer rows"
        )
    return size
