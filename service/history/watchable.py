"""The metrics that alerts can watch: those that are a mean over rows, and its moments.

A quantile is one in disguise (:mod:`service.history.exceedance`). A maximum and the calibration
error are none: their running values have no bounds that hold at all looks. The sigmoid family
counts elements, of which those of one row are no independent facts: they are shared out, d elements
of a row one d-th each, which never claims too much.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.history import entropy
from service.history.moments import Moments, Numbers
from service.history.quantiles import SHARES
from service.history.stack import Stack
from service.history.sums import Records


@dataclass(frozen=True, slots=True)
class Watchable:
    """A mean that can be watched.

    Attributes:
        columns: what it is made of.
        of: its moments, (count,), of many sums.
        of_classes: of records of classes; ``None`` where it is none of a class.
    """

    columns: tuple[str, ...]
    of: Callable[[Stack], Moments]
    of_classes: Callable[[Records], Moments] | None = None


def _loss(sums: Stack) -> Moments:
    names = ("evaluated", "loss_sum", "weight_sum", *_SQUARES)
    return Moments(*(_scalar(sums, name) for name in names))


def _loss_of_classes(records: Records) -> Moments:
    names = ("support", "loss_sum", "weight", *_SQUARES)
    return Moments(*(records[name].astype(np.float64) for name in names))


def _recall(sums: Stack) -> Moments:
    hits, positives = (_of_all_classes(sums, name) for name in ("true_positives", "positives"))
    return _shared_out(hits, hits, positives, _scalar(sums, "evaluated"))


def _recall_of_classes(records: Records) -> Moments:
    hits = records["true_positives"].astype(np.float64)
    return _plain(hits, hits, records["positives"].astype(np.float64))


def _brier(sums: Stack) -> Moments:
    total, squares = _scalar(sums, "brier_sum"), _scalar(sums, "brier_square_sum")
    return _shared_out(total, squares, _scalar(sums, "decisions"), _scalar(sums, "evaluated"))


def _gradient_norm(sums: Stack) -> Moments:
    names = ("gradient_norm_sum", "gradient_norm_square_sum", "support")
    total, squares, count = (_of_all_classes(sums, name) for name in names)
    return _shared_out(total, squares, count, _scalar(sums, "evaluated"))


def _gradient_norm_of_classes(records: Records) -> Moments:
    names = ("gradient_norm_sum", "gradient_norm_square_sum", "support")
    return _plain(*(records[name].astype(np.float64) for name in names))


def _nonfinite_rate(sums: Stack) -> Moments:
    hits = _scalar(sums, "nonfinite")
    return _plain(hits, hits, _scalar(sums, "rows"))


def _label_ratio(sums: Stack) -> Moments:
    rows = _scalar(sums, "rows")
    hits = rows - _scalar(sums, "ignored")
    return _plain(hits, hits, rows)


def _scalar(sums: Stack, name: str) -> Numbers:
    return sums.scalars[name].astype(np.float64)


def _of_all_classes(sums: Stack, name: str) -> Numbers:
    pile = sums.piles["classes"]
    return np.bincount(pile.owner, pile.records[name], minlength=sums.count).astype(np.float64)


def _plain(total: Numbers, squares: Numbers, count: Numbers) -> Moments:
    """Return the moments of a mean over ``count`` rows of equal weight."""
    return Moments(rows=count, x=total, w=count, xx=squares, xw=total, ww=count)


def _shared_out(total: Numbers, squares: Numbers, count: Numbers, rows: Numbers) -> Moments:
    """Return the moments of a mean over ``count`` elements of at most ``rows`` independent rows."""
    each = np.maximum(1.0, count / np.maximum(rows, 1))
    return _plain(total / each, squares / each, count / each)


_SQUARES: Final = ("loss_square_sum", "loss_weight_sum", "weight_square_sum")
_CLASSES: Final = ("evaluated", "classes")

WATCHABLE: Final[Mapping[str, Watchable]] = {
    "loss.mean": Watchable(
        ("evaluated", "loss_sum", "weight_sum", *_SQUARES), _loss, _loss_of_classes
    ),
    "recall": Watchable(_CLASSES, _recall, _recall_of_classes),
    "brier": Watchable(("evaluated", "decisions", "brier_sum", "brier_square_sum"), _brier),
    "gradient_norm.mean": Watchable(_CLASSES, _gradient_norm, _gradient_norm_of_classes),
    "normalised_entropy": Watchable(entropy.COLUMNS, entropy.moments),
    "nonfinite_rate": Watchable(("rows", "nonfinite"), _nonfinite_rate),
    "label_ratio": Watchable(("rows", "ignored"), _label_ratio),
}
# Quantiles, by the share of rows that do not exceed them.
QUANTILES: Final[Mapping[str, float]] = {f"loss.{name}": each for name, each in SHARES.items()}

_NO_MEAN: Final = "no mean over rows, so that nothing holds for it at all looks"
_UNWATCHED: Final[Mapping[str, str]] = {
    "loss.max": f"one row decides it, it is {_NO_MEAN}; watch loss.p99",
    "ece": f"is made of absolute values, it is {_NO_MEAN}; watch brier",
    "rows": "is a count that grows with the time that is watched",
}


def refusal(metric: str) -> str | None:
    """Return why a metric cannot be watched; ``None`` where it can."""
    if metric in WATCHABLE or metric in QUANTILES:
        return None
    known = f"what can be watched: {', '.join((*WATCHABLE, *QUANTILES))}"
    reason = _UNWATCHED.get(metric, "is no metric")
    return f"cannot be watched: {reason}; {known}" if metric in _UNWATCHED else f"{reason}; {known}"
