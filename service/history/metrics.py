"""What can be asked of sums: each metric's unit, value and interval, of many sums at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.history import entropy, intervals
from service.history.intervals import Floats
from service.history.quantiles import SHARES, Histograms
from service.history.stack import PENDING, Pile, Stack
from service.history.sums import ALL_CLASSES, BINS, REPLICATES, Records


@dataclass(frozen=True, slots=True)
class Estimates:
    """Values, (estimates,); NaN for none. ``rows``: of how many rows each is."""

    value: Floats
    low: Floats
    high: Floats
    rows: Floats


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: as it is asked for.
        unit: of its values.
        summary: what it is, and what its interval is.
        columns: what it is made of.
        of: makes it of sums.
        of_classes: makes it of records of classes, one estimate each; ``None`` where it is none of
            a class.
        mixes: whether evaluations of one row under several variants or settings may be put
            together.
    """

    name: str
    unit: str
    summary: str
    columns: tuple[str, ...]
    of: Callable[[Stack], Estimates]
    of_classes: Callable[[Records], Estimates] | None = None
    mixes: bool = False


# What the status of every estimate is made of.
STATUS: Final = (PENDING, "rows", "evaluated", "nonfinite", "infinite")


def _loss(sums: Stack) -> Estimates:
    of = _floats(sums)
    count, total, weight = of("evaluated"), of("loss_sum"), of("weight_sum")
    value = _ratio(total, weight)
    squares = (of("loss_square_sum"), of("loss_weight_sum"), of("weight_square_sum"))
    error = intervals.ratio_error(count, total, weight, squares=squares)
    replicated = (of("replicated") == count) & (count > 1)
    freedom = count
    if replicated.any():
        drawn = _replicates(sums.piles["replicates"], sums.count)
        bootstrapped = intervals.replicated_error(value, *drawn)
        # A resample varies as much as n - 1 of n rows do.
        bootstrapped *= np.sqrt(count / np.maximum(count - 1, 1))
        error = np.where(replicated, bootstrapped, error)
        # The error is known from so many replicates, however many rows there are.
        freedom = np.where(replicated, np.minimum(count, REPLICATES), count)
    return Estimates(value, *intervals.around(value, error, freedom), count)


def _loss_of_classes(records: Records) -> Estimates:
    count = records["support"].astype(np.float64)
    total, weight = records["loss_sum"], records["weight"]
    value = _ratio(total, weight)
    error = class_loss_error(records)
    return Estimates(value, *intervals.around(value, error, count), count)


def class_loss_error(records: Records) -> Floats:
    """Return the standard error of the mean loss of classes, (records,)."""
    squares = ("loss_square_sum", "loss_weight_sum", "weight_square_sum")
    return intervals.ratio_error(
        records["support"].astype(np.float64),
        records["loss_sum"],
        records["weight"],
        squares=tuple(records[name] for name in squares),
    )


def _quantile(share: float, sums: Stack) -> Estimates:
    of = _floats(sums)
    histograms = Histograms(sums.piles["histogram"], of("loss_min"), of("loss_max"))
    value = histograms.quantile(share)
    return Estimates(value, *histograms.interval(share), histograms.count)


def _largest(sums: Stack) -> Estimates:
    return _alone(_floats(sums)("loss_max"), _floats(sums)("evaluated"))


def _recall(sums: Stack) -> Estimates:
    pile = sums.piles["classes"]
    hits = _total(pile, "true_positives", sums.count)
    return _share(hits, _total(pile, "positives", sums.count))


def _recall_of_classes(records: Records) -> Estimates:
    return _share(
        records["true_positives"].astype(np.float64), records["positives"].astype(np.float64)
    )


def _ece(sums: Stack) -> Estimates:
    of = _floats(sums)
    bins = sums.piles["calibration"].records.reshape(sums.count, BINS)
    value, interval = intervals.calibration_error(
        bins["count"].astype(np.float64), bins["hits"], bins["confidence_sum"], _design(sums)
    )
    return Estimates(value, *interval, of("evaluated"))


def _brier(sums: Stack) -> Estimates:
    of = _floats(sums)
    count, total = of("decisions"), of("brier_sum")
    value = _ratio(total, count)
    squares = (of("brier_square_sum"), total, count)
    error = intervals.ratio_error(count, total, count, squares=squares) * np.sqrt(_design(sums))
    return Estimates(value, *intervals.around(value, error, of("evaluated")), of("evaluated"))


def _gradient_norm(sums: Stack) -> Estimates:
    pile = sums.piles["classes"]
    support, total, squares = (
        _total(pile, name, sums.count)
        for name in ("support", "gradient_norm_sum", "gradient_norm_square_sum")
    )
    count = _floats(sums)("evaluated")
    value = _ratio(total, support)
    error = intervals.ratio_error(support, total, support, squares=(squares, total, support))
    # Sigmoid: the elements of a row are not independent; as many as there are rows, at least.
    error *= np.sqrt(np.maximum(_ratio(support, count), 1))
    return Estimates(value, *intervals.around(value, error, count), count)


def _gradient_norm_of_classes(records: Records) -> Estimates:
    count = records["support"].astype(np.float64)
    total = records["gradient_norm_sum"]
    value = _ratio(total, count)
    squares = (records["gradient_norm_square_sum"], total, count)
    error = intervals.ratio_error(count, total, count, squares=squares)
    return Estimates(value, *intervals.around(value, error, count), count)


def _normalised_entropy(sums: Stack) -> Estimates:
    known = entropy.moments(sums)
    squares = (known.xx, known.xw, known.ww)
    error = intervals.ratio_error(known.rows, known.x, known.w, squares=squares)
    rows = _floats(sums)("evaluated")
    return Estimates(known.mean, *intervals.around(known.mean, error, known.rows), rows)


def _nonfinite_rate(sums: Stack) -> Estimates:
    of = _floats(sums)
    return _share(of("nonfinite"), of("rows"))


def _label_ratio(sums: Stack) -> Estimates:
    of = _floats(sums)
    return _share(of("rows") - of("ignored"), of("rows"))


def _rows(sums: Stack) -> Estimates:
    rows = _floats(sums)("rows")
    return _alone(np.where(rows > 0, rows, np.nan), rows)


def _rows_of_classes(records: Records) -> Estimates:
    rows = records["support"].astype(np.float64)
    return _alone(np.where(rows > 0, rows, np.nan), rows)


def _floats(sums: Stack) -> Callable[[str], Floats]:
    return lambda name: sums.scalars[name].astype(np.float64)


def _ratio(over: Floats, under: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(under > 0, over / under, np.nan)


def _share(hits: Floats, count: Floats) -> Estimates:
    return Estimates(_ratio(hits, count), *intervals.wilson(hits, count), count)


def _alone(value: Floats, rows: Floats) -> Estimates:
    """Return values that have no interval."""
    unknown = np.full(len(value), np.nan)
    return Estimates(value, unknown, unknown, rows)


def _total(pile: Pile, name: str, count: int) -> Floats:
    totals = np.bincount(pile.owner, pile.records[name], minlength=count)
    return np.asarray(totals, np.float64)


def _design(sums: Stack) -> Floats:
    """Return how many decisions a row has: at worst, all of them are one."""
    of = _floats(sums)
    return np.maximum(np.nan_to_num(_ratio(of("decisions"), of("evaluated")), nan=1.0), 1.0)


def _replicates(pile: Pile, count: int) -> tuple[Floats, Floats]:
    """Return the sums of loss and of weight of all rows in each replicate, (count, replicates)."""
    whole = pile.where(pile.key == ALL_CLASSES)
    losses, weights = np.zeros((2, count, REPLICATES))
    losses[whole.owner] = whole.records["loss_sums"]
    weights[whole.owner] = whole.records["weight_sums"]
    return losses, weights


_SQUARES: Final = ("loss_square_sum", "loss_weight_sum", "weight_square_sum")
_OF_LOSS: Final = ("loss_sum", "weight_sum", *_SQUARES, "replicated", "replicates")
_OF_QUANTILE: Final = ("loss_min", "loss_max", "histogram")

_ALL: Final = (
    Metric(
        "loss.mean",
        "nats",
        "Sum of the loss over its denominator. Interval: delta method of a ratio of sums, or the "
        "bootstrap's standard error where every row was replicated.",
        _OF_LOSS,
        _loss,
        _loss_of_classes,
    ),
    *(
        Metric(
            f"loss.{name}",
            "nats",
            f"The loss that {share:.0%} of the rows do not exceed, within 1 %. Interval: order "
            "statistics.",
            _OF_QUANTILE,
            partial(_quantile, share),
        )
        for name, share in SHARES.items()
    ),
    Metric("loss.max", "nats", "The largest loss of a row, exact.", ("loss_max",), _largest),
    Metric(
        "recall",
        "share",
        "True positives over positives; of all classes: the share that is right. Interval: Wilson.",
        ("classes",),
        _recall,
        _recall_of_classes,
    ),
    Metric(
        "ece",
        "share",
        "Expected calibration error, 15 bins. Interval: approximate, by bins.",
        ("decisions", "calibration"),
        _ece,
    ),
    Metric(
        "brier",
        "score",
        "Mean Brier score. Interval: from its squares.",
        ("decisions", "brier_sum", "brier_square_sum"),
        _brier,
    ),
    Metric(
        "gradient_norm.mean",
        "nats per logit",
        "Mean norm of the gradient of a row (sigmoid: of an element). Interval: from its squares.",
        ("classes",),
        _gradient_norm,
        _gradient_norm_of_classes,
    ),
    Metric(
        "normalised_entropy",
        "ratio",
        "The loss over that of a predictor that knows the class frequencies only. Interval: delta "
        "method of a ratio of sums; conservative where labels are yes or no.",
        entropy.COLUMNS,
        _normalised_entropy,
    ),
    Metric(
        "nonfinite_rate",
        "share",
        "Rows that held NaN or +inf, over all rows. Interval: Wilson.",
        (),
        _nonfinite_rate,
        mixes=True,
    ),
    Metric(
        "label_ratio",
        "share",
        "Labelled rows over all rows. Interval: Wilson.",
        ("ignored",),
        _label_ratio,
        mixes=True,
    ),
    Metric("rows", "rows", "All rows; by class: its support.", (), _rows, _rows_of_classes, True),
)

METRICS: Final[Mapping[str, Metric]] = {each.name: each for each in _ALL}
BY_CLASS: Final = tuple(each.name for each in _ALL if each.of_classes is not None)


def number(value: Any) -> float | None:  # noqa: ANN401
    """Return a number as JSON holds it: ``None`` for what is not finite."""
    return float(value) if np.isfinite(value) else None


def numbers(values: NDArray[Any]) -> list[float | None]:
    """Return numbers as JSON holds them."""
    finite = np.isfinite(values)
    if finite.all():
        plain: list[float | None] = values.tolist()
        return plain
    pairs = zip(values.tolist(), finite.tolist(), strict=True)
    return [each if known else None for each, known in pairs]
