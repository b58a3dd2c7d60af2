"""Rows per class: as stated or as counted, and the weights and shares derived from them."""

import math
from collections.abc import Sequence

from xentcore.errors import InvalidSetting


def known_counts(
    stated: Sequence[int] | None, counted: Sequence[int] | None, *, what: str
) -> Sequence[int]:
    """Return the counts that were stated, otherwise those of the batch.

    Args:
        stated: in the settings.
        counted: of the whole batch; ``None`` where it is not at hand.
        what: depends on them, in the plural.

    Raises:
        InvalidSetting: there are neither.
    """
    if stated is not None:
        return stated
    if counted is None:
        raise InvalidSetting(
            f"{what} depend on the whole batch: give class_counts when rows come in chunks",
            pointer="/settings/class_counts",
        )
    return counted


def log_shares(amounts: Sequence[float]) -> tuple[float, ...]:
    """Return log(n_c / sum n) of amounts n of at least 0; -inf where there is nothing."""
    largest = max(amounts, default=0)
    if not largest:
        return (-math.inf,) * len(amounts)
    # In units of the largest: neither the sum of large amounts nor a small share leaves float64.
    whole = math.log(largest) + math.log(math.fsum(n / largest for n in amounts))
    return tuple(math.log(n) - whole if n else -math.inf for n in amounts)


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
