"""Buckets of simulated rows, for what watches them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from service.history.moments import Moments

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]

# Of mean 1; their skewness is 0, 2, 4.2 and 6.2.
DRAWS: dict[str, Draw] = {
    "normal": lambda random, shape: random.normal(1, 1, shape),
    "exponential": lambda random, shape: random.exponential(1, shape),
    "rare": lambda random, shape: (random.random(shape) < 0.05) / 0.05,
    "lognormal": lambda random, shape: random.lognormal(-0.5, 1, shape),
}


def buckets(rows: Floats, weights: Floats | None = None) -> Moments:
    """Return the moments of (buckets, rows)."""
    w = np.ones_like(rows) if weights is None else weights
    x = rows * w
    count = np.full(len(rows), rows.shape[1], np.float64)
    sums = (x.sum(1), w.sum(1), (x * x).sum(1), (x * w).sum(1), (w * w).sum(1))
    return Moments(count, *sums)
