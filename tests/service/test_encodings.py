"""Compressed bodies: every truncation is noticed, and no bomb goes off."""

import gzip
import os
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Malformed, TooLarge, UnsupportedMediaType
from service.wire.encodings import DECODERS, PIECE_BYTES, Decoder, decoder_for
from service.wire.payload import Body

NOISE = os.urandom(100_000)
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def run(decoder: Decoder, raw: bytes, limit: int = 1 << 24, *, cancelled: bool = False) -> bytes:
    body = Body(np.frombuffer(raw, np.uint8))
    return decoder(body, limit=limit, cancelled=lambda: cancelled).tobytes()


@pytest.fixture(params=COMPRESS)
def encoding(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", NOISE, bytes(1_000_000), bytes(PIECE_BYTES), bytes(PIECE_BYTES) * 3, NOISE * 3],
    ids=len,
)
def test_bodies_come_back_whole(encoding: str, data: bytes) -> None:
    packed = COMPRESS[encoding](data)
    assert run(DECODERS[encoding], packed) == data
    assert run(DECODERS[encoding], packed, limit=len(data)) == data


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_several_members_are_one_body(encoding: str) -> None:
    packed = COMPRESS[encoding](NOISE)
    assert run(DECODERS[encoding], packed + packed) == NOISE + NOISE


def test_deflate_is_one_stream() -> None:
    for behind in (zlib.compress(b"x"), b"x"):
        with pytest.raises(Malformed, match="follows"):
            run(DECODERS["deflate"], zlib.compress(NOISE) + behind)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_every_truncation_is_noticed(data: bytes, cut: int) -> None:
    for encoding, compress in COMPRESS.items():
        packed = compress(data)
        with pytest.raises(Malformed):
            run(DECODERS[encoding], packed[: cut % len(packed)] or b"\x1f")


@pytest.mark.parametrize("missing", [1, 3, 40, 99_000])
def test_a_long_body_that_is_cut_is_noticed(encoding: str, missing: int) -> None:
    with pytest.raises(Malformed):
        run(DECODERS[encoding], COMPRESS[encoding](NOISE)[:-missing])


def test_what_follows_or_is_damaged_is_refused(encoding: str) -> None:
    packed = COMPRESS[encoding](NOISE)
    for raw in (packed + b"x", packed + bytes(8), b"x" + packed, NOISE[:100]):
        with pytest.raises(Malformed):
            run(DECODERS[encoding], raw)


def test_a_zlib_stream_is_not_gzip() -> None:
    with pytest.raises(Malformed):
        run(DECODERS["gzip"], zlib.compress(b"x"))
    with pytest.raises(Malformed):
        run(DECODERS["deflate"], gzip.compress(b"x"))


def test_a_window_above_the_standard_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(Malformed):
        run(DECODERS["zstd"], stream.compress(bytes(100)) + stream.flush())


def test_bombs_stop_at_the_limit(encoding: str) -> None:
    bomb = COMPRESS[encoding](bytes(1 << 28))
    limit = 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="1048576 bytes"):
            run(DECODERS[encoding], bomb, limit)
        assert tracemalloc.get_traced_memory()[1] < 3 * limit
    finally:
        tracemalloc.stop()


def test_work_stops_when_nobody_waits(encoding: str) -> None:
    assert len(run(DECODERS[encoding], COMPRESS[encoding](NOISE), cancelled=True)) < len(NOISE)


@pytest.mark.parametrize("name", [None, "identity", " GZIP ", "x-gzip", "Deflate", "zstd"])
def test_known_encodings(name: str | None) -> None:
    assert decoder_for(name) in DECODERS.values()


@pytest.mark.parametrize("name", ["br", "compress", "gzip, zstd", "gzip, gzip"])
def test_unknown_encodings_get_the_list(name: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="identity, gzip, x-gzip, deflate, zstd"):
        decoder_for(name)
