"""Rows that many tests send."""

from collections.abc import Iterator

import numpy as np

GENERATOR = np.random.default_rng(7)
LOGITS = GENERATOR.normal(size=(60, 4)).astype(np.float32)
LABELS = GENERATOR.integers(4, size=60)


def chunks(size: int = 13) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut the rows."""
    for first in range(0, len(LOGITS), size):
        yield LOGITS[first : first + size], LABELS[first : first + size]
