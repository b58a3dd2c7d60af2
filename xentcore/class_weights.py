"""Class weights derived from how many rows each class has."""

import math
from collections.abc import Sequence

from xentcore.errors import InvalidSetting


def counts_of(
    stated: Sequence[int] | None, counted: Sequence[int] | None, weights: str
) -> Sequence[int]:
    """Return the rows per class that were stated, or else those counted in the batch.

    Raises:
        InvalidSetting: neither is known, as ``weights`` cannot be without them.
    """
    counts = stated or counted
    if counts is None:
        raise InvalidSetting(
            f"{weights} depend on the whole batch: give class_counts when rows come in chunks",
            pointer="/settings/class_counts",
        )
    return counts


def balanced(counts: Sequence[int]) -> tuple[float, ...]:
    """R / (C n_c), scikit-learn's 'balanced'; 0 for a class that the batch does not hold."""
    rows = sum(counts)
    return tuple(rows / (len(counts) * n) if n else 0.0 for n in counts)


def effective_number(counts: Sequence[int], beta: float) -> tuple[float, ...]:
    """(1-b)/(1-b^n_c) scaled to sum C; 0 for a class that the batch does not hold.

    Source: Cui et al., arXiv 1901.05555.
    """
    # expm1: at b = 1 - 1e-12 the difference 1 - b^n would keep four digits.
    log_beta = math.log(beta) if beta else -math.inf
    raw = [(1 - beta) / -math.expm1(n * log_beta) if n else 0.0 for n in counts]
    scale = len(counts) / (sum(raw) or 1.0)
    return tuple(weight * scale for weight in raw)
