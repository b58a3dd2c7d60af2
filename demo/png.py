"""Pictures of pages as small PNGs: 256 colours, which pages hardly exceed, and no filters.

Browsers write what is quick to write; flat areas of few colours compress to a third of that.
Format: W3C, Portable Network Graphics, 3rd edition.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
COLOURS: Final = 256
_RGB: Final = 2
_PALETTE: Final = 3
_SAMPLES: Final = 3  # of a pixel


def small(png: bytes) -> bytes:
    """Return an 8-bit RGB picture with the 256 colours that it has most of.

    Raises:
        ValueError: it is no such picture.
    """
    pixels = decoded(png)
    height, width, _ = pixels.shape
    colours, where, counts = np.unique(
        pixels.reshape(-1, _SAMPLES), axis=0, return_inverse=True, return_counts=True
    )
    kept = colours[np.sort(np.argsort(-counts, kind="stable")[:COLOURS])].astype(np.int64)
    # Every other colour becomes the nearest one that is kept.
    distances = ((colours[:, None].astype(np.int64) - kept) ** 2).sum(axis=2)
    index = distances.argmin(axis=1)[where.reshape(-1)].astype(np.uint8).reshape(height, width)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), index], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, _PALETTE, 0, 0, 0)
    chunks = {
        b"IHDR": header,
        b"PLTE": kept.astype(np.uint8).tobytes(),
        b"IDAT": zlib.compress(rows.tobytes(), 9),
        b"IEND": b"",
    }
    return SIGNATURE + b"".join(_chunk(name, data) for name, data in chunks.items())


def decoded(png: bytes) -> Bytes:
    """Return the pixels of an 8-bit RGB picture, (height, width, 3). Raises ValueError."""
    if not png.startswith(SIGNATURE):
        raise ValueError("not a PNG")
    parts = list(_chunks(png))
    width, height, depth, kind, *_ = struct.unpack(">IIBBBBB", dict(parts)[b"IHDR"])
    if (depth, kind) != (8, _RGB):
        raise ValueError("not an 8-bit RGB picture")
    data = zlib.decompress(b"".join(part for name, part in parts if name == b"IDAT"))
    rows = np.frombuffer(data, np.uint8).reshape(height, 1 + _SAMPLES * width)
    pixels = np.zeros((height + 1, _SAMPLES * width), np.uint8)
    for at, row in enumerate(rows):
        pixels[at + 1] = _FILTERS[int(row[0])](row[1:], pixels[at])
    return pixels[1:].reshape(height, width, _SAMPLES)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _from_left(row: Bytes, _: Bytes) -> Bytes:
    return row.reshape(-1, _SAMPLES).cumsum(axis=0, dtype=np.uint8).reshape(-1)


def _one_by_one(predicted: Callable[[int, int, int], int]) -> Callable[[Bytes, Bytes], Bytes]:
    """Return the undoing of a filter that looks left, up, and up to the left."""

    def undo(row: Bytes, above: Bytes) -> Bytes:
        up = above.tolist()
        left = [0] * _SAMPLES + [0] * len(up)
        for at, value in enumerate(row.tolist()):
            corner = up[at - _SAMPLES] if at >= _SAMPLES else 0
            left[at + _SAMPLES] = (value + predicted(left[at], up[at], corner)) & 255
        return np.array(left[_SAMPLES:], np.uint8)

    return undo


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda each: abs(guess - each))


_FILTERS: Final[Mapping[int, Callable[[Bytes, Bytes], Bytes]]] = {
    0: lambda row, _: row,
    1: _from_left,
    2: lambda row, above: row + above,
    3: _one_by_one(lambda left, up, _: (left + up) // 2),
    4: _one_by_one(_paeth),
}
