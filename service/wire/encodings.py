"""Content encodings: gzip, deflate and zstd, undone in bounded pieces under any body's limit."""

import secrets
import zlib
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import zstandard

from service.errors import Malformed, TooLarge, UnsupportedMediaType
from service.wire.buffer import Buffer
from service.wire.payload import Body

PIECE_BYTES: Final = 1 << 16
WINDOW_BYTES: Final = 1 << 23  # what RFC 9659 allows a zstd sender over HTTP
GZIP: Final = 16 + zlib.MAX_WBITS  # how zlib is told of gzip's header and checksum
MEMBERS: Final = {
    "gzip": partial(zlib.decompressobj, GZIP),
    "deflate": partial(zlib.decompressobj, zlib.MAX_WBITS),
}


class Decoder(Protocol):
    """Turns a received body into the one that it encodes."""

    def __call__(self, body: Body, *, limit: int, cancelled: Callable[[], bool]) -> Body:
        """Return the decoded body; give up between two pieces once ``cancelled()``.

        Raises:
            Malformed: truncated, damaged, or followed by something else.
            TooLarge: more than ``limit`` bytes.
        """
        ...


def identity(body: Body, *, limit: int, cancelled: Callable[[], bool]) -> Body:  # noqa: ARG001
    """Return the body as it is."""
    return body


def gunzip(body: Body, *, limit: int, cancelled: Callable[[], bool]) -> Body:
    """Decompress gzip: one member or several."""
    return _inflate(body, "gzip", limit=limit, cancelled=cancelled)


def inflate(body: Body, *, limit: int, cancelled: Callable[[], bool]) -> Body:
    """Decompress what HTTP calls deflate: one zlib stream (RFC 9110)."""
    return _inflate(body, "deflate", limit=limit, cancelled=cancelled)


def _inflate(body: Body, name: str, *, limit: int, cancelled: Callable[[], bool]) -> Body:
    begin = MEMBERS[name]
    buffer = Buffer(limit=limit)
    source = body.data
    position = 0
    full = False  # the last piece filled its bound: the member may hold more, without more input
    member = begin()
    while (position < len(source) or member.unconsumed_tail or full) and not cancelled():
        if member.eof:
            if position == len(source):
                break
            if name != "gzip":
                raise Malformed(f"something follows the {name} body")
            member = begin()
        piece = member.unconsumed_tail
        if not piece:
            piece = bytes(source[position : position + PIECE_BYTES])
            position += len(piece)
        try:
            data = member.decompress(piece, PIECE_BYTES)
        except zlib.error:
            raise Malformed(f"the body is not {name}") from None
        buffer.append(data)
        full = len(data) == PIECE_BYTES
        position -= len(member.unused_data)
    if not member.eof and not cancelled():
        raise Malformed(f"the {name} body is truncated")
    return buffer.body()


def unzstd(body: Body, *, limit: int, cancelled: Callable[[], bool]) -> Body:
    """Decompress zstd: one frame or several."""
    # The reader cannot tell a truncated frame from a finished one. So a last frame of our own is
    # put behind the body: its content comes out whole only when everything before it was whole.
    seal = secrets.token_bytes(16)
    last_frame = zstandard.ZstdCompressor(write_checksum=True).compress(seal)
    # One byte more than both: a reader that is given no room cannot say that it has ended.
    buffer = Buffer(limit=limit + len(seal) + 1)
    reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).stream_reader(
        _Sealed(body, last_frame),  # type: ignore[arg-type]  # all it calls is read()
        read_across_frames=True,
    )
    try:
        while not cancelled() and (written := reader.readinto(buffer.room()[:PIECE_BYTES])):
            buffer.advance(written)
            if buffer.size > limit + len(seal):
                raise TooLarge(f"the body has more than {limit} bytes")
    except zstandard.ZstdError:
        raise Malformed("the body is not zstd, or is truncated") from None
    whole = buffer.body()
    content = len(whole) - len(seal)
    if not cancelled() and (content < 0 or whole[content:].tobytes() != seal):
        raise Malformed("the zstd body is truncated")
    return Body(whole[: max(content, 0)])


class _Sealed:
    """A body with a last frame behind it, as the file that the zstd reader wants.

    The frame always comes in one piece with the body's last bytes: zstd takes a piece that is a
    whole frame for one, even where it is still missing bytes of the header before.
    """

    def __init__(self, body: Body, last_frame: bytes) -> None:
        self._body = body.data
        self._last_frame = last_frame

    def read(self, size: int) -> bytes | memoryview:
        """Return the next piece; about ``size`` bytes."""
        piece, self._body = self._body[:size], self._body[size:]
        if self._body or not self._last_frame:
            return piece
        end, self._last_frame = bytes(piece) + self._last_frame, b""
        return end


DECODERS: Final[dict[str, Decoder]] = {
    "identity": identity,
    "gzip": gunzip,
    "x-gzip": gunzip,
    "deflate": inflate,
    "zstd": unzstd,
}


def decoder_for(content_encoding: str | None) -> Decoder:
    """Return the decoder of a ``Content-Encoding``.

    Raises:
        UnsupportedMediaType: it is none of ours, or several.
    """
    decoder = DECODERS.get((content_encoding or "identity").strip().lower())
    if decoder is None:
        raise UnsupportedMediaType(
            f"content encoding not supported; supported: {', '.join(DECODERS)}"
        )
    return decoder
