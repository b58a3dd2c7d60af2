"""Answers compressed as their reader asks: gzip or deflate, nothing else."""

import zlib
from collections.abc import Sequence
from typing import Final

# Floating-point numbers hardly get smaller with more effort.
LEVEL: Final = 1
WINDOWS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def coding_for(accept_encoding: str | None) -> str | None:
    """Return the content coding of an answer; ``None`` for none.

    The better liked of the two; of equals, gzip; neither where the answer is liked better as it is.
    """
    liked = dict.fromkeys(WINDOWS, 0.0)
    plain = 0.0
    for entry in (accept_encoding or "").lower().split(","):
        coding, _, parameters = entry.partition(";")
        if coding.strip() in liked:
            liked[coding.strip()] = _quality(parameters)
        elif coding.strip() == "identity":
            plain = _quality(parameters)
    best = max(liked, key=lambda coding: liked[coding])
    return best if liked[best] > 0 and liked[best] >= plain else None


def compressed(chunks: Sequence[bytes | memoryview], coding: str) -> list[bytes | memoryview]:
    """Return the chunks in a content coding."""
    compressor = zlib.compressobj(LEVEL, wbits=WINDOWS[coding])
    found: list[bytes | memoryview] = [compressor.compress(chunk) for chunk in chunks]
    return [each for each in (*found, compressor.flush()) if each]


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
