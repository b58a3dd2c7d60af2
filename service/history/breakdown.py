"""What a selection is made of: its hardest rows, its calibration, its histogram of losses."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from service.history import grouping, intervals, stack, times
from service.history.metrics import METRICS, STATUS, Estimates, Metric, number, numbers
from service.history.quantiles import SHARES, bounds
from service.history.questions import Referring, Selection
from service.history.rollups import View
from service.history.selection import Series, class_names, cover, gather, span
from service.history.stack import Stack
from service.history.sums import BINS, HARDEST, hardness


class HardestQuestion(Selection):
    """Which rows, and how many."""

    limit: int = Field(HARDEST, ge=1, le=HARDEST, description="How many rows.")


def hardest(view: View, question: HardestQuestion) -> dict[str, Any]:
    """Return the rows of largest loss, the largest first.

    Raises:
        InvalidDocument: the selection would put different units together.
    """
    series = grouping.selected(view, question)
    grouping.refuse_mixed(series, (), METRICS["loss.max"])
    found = gather(view, series, cover(question, series), ["hardest"])
    of_series = stack.fold(found.sums, found.position, len(series)).blobs["hardest"]
    rows = [
        (row, each)
        for blob, each in zip(of_series, series, strict=True)
        for row in (json.loads(blob) if blob else [])
    ]
    names = class_names(view.connection, (each.schema.id for each in series))
    rows.sort(key=lambda pair: hardness(pair[0]))
    return {
        **_head(view, question, series),
        "rows": [_row(row, each, names[each.schema.id]) for row, each in rows[: question.limit]],
    }


def calibration(view: View, question: Referring) -> dict[str, Any]:
    """Return the bins of confidence and what follows from them, and the reference's beside them.

    Raises:
        InvalidDocument: the selection would put different units together.
    """
    columns = (
        *("decisions", "entropy_sum", "calibration", "brier_sum", "brier_square_sum"),
        *STATUS,
    )
    return _with_reference(view, question, METRICS["ece"], columns, _calibration)


def histogram(view: View, question: Referring) -> dict[str, Any]:
    """Return how many rows have which loss, and quantiles, and the reference's beside them.

    Raises:
        InvalidDocument: the selection would put different units together.
    """
    columns = (*METRICS["loss.p50"].columns, *METRICS["loss.mean"].columns, *STATUS)
    return _with_reference(view, question, METRICS["loss.p50"], columns, _histogram)


def _with_reference(
    view: View,
    question: Referring,
    metric: Metric,
    columns: Sequence[str],
    describe: Callable[[Stack], dict[str, Any]],
) -> dict[str, Any]:
    reference = question.reference()
    series = grouping.selected(view, question)
    before = [] if reference is None else grouping.selected(view, reference)
    grouping.refuse_mixed([*series, *before], (), metric)
    return {
        **_head(view, question, series),
        **describe(_whole(view, question, series, columns)),
        "reference": None
        if reference is None
        else {
            **_time(reference, before),
            **describe(_whole(view, reference, before, columns)),
        },
    }


def _whole(
    view: View, selection: Selection, series: Sequence[Series], columns: Sequence[str]
) -> Stack:
    """Return the sums of everything that is selected, as the only ones of a stack."""
    found = gather(view, series, cover(selection, series), list(dict.fromkeys(columns)))
    return stack.fold(found.sums, np.zeros(found.sums.count, np.int64), 1)


def _calibration(sums: Stack) -> dict[str, Any]:
    pile = sums.piles["calibration"]
    bins = np.zeros(BINS, pile.records.dtype)
    bins[pile.key] = pile.records
    sums.piles["calibration"] = stack.Pile(np.zeros(BINS, np.int64), np.arange(BINS), bins)
    count = bins["count"].astype(np.float64)
    decisions = float(sums.scalars["decisions"][0])
    with np.errstate(invalid="ignore"):
        accuracy, confidence = bins["hits"] / count, bins["confidence_sum"] / count
        entropy = sums.scalars["entropy_sum"][0] / decisions if decisions else np.nan
    low, high = intervals.wilson(bins["hits"], count)
    edges = np.linspace(0, 1, BINS + 1)
    return {
        "rows": int(sums.scalars["evaluated"][0]),
        "decisions": int(decisions),
        "ece": _estimate(METRICS["ece"].of(sums)),
        "brier": _estimate(METRICS["brier"].of(sums)),
        "entropy_mean": number(entropy),
        "bins": {
            "lower": edges[:-1].tolist(),
            "upper": edges[1:].tolist(),
            "count": bins["count"].tolist(),
            "confidence_mean": numbers(confidence),
            "accuracy": numbers(accuracy),
            "low": numbers(low),
            "high": numbers(high),
        },
    }


def _histogram(sums: Stack) -> dict[str, Any]:
    records = sums.piles["histogram"].records
    lower, upper, _ = bounds()
    return {
        "rows": int(sums.scalars["evaluated"][0]),
        "min": number(sums.scalars["loss_min"][0]),
        "max": number(sums.scalars["loss_max"][0]),
        "mean": _estimate(METRICS["loss.mean"].of(sums)),
        "quantiles": {name: _estimate(METRICS[f"loss.{name}"].of(sums)) for name in SHARES},
        "buckets": {
            "lower": lower[records["bucket"]].tolist(),
            "upper": upper[records["bucket"]].tolist(),
            "count": records["count"].tolist(),
        },
    }


def _estimate(estimates: Estimates) -> dict[str, float | None]:
    return {
        "value": number(estimates.value[0]),
        "low": number(estimates.low[0]),
        "high": number(estimates.high[0]),
    }


def _head(view: View, selection: Selection, series: Sequence[Series]) -> dict[str, Any]:
    return {"project": view.project, "revision": view.revision, **_time(selection, series)}


def _time(selection: Selection, series: Sequence[Series]) -> dict[str, str]:
    start, end = span(selection, series)
    return {"from": times.text(start), "to": times.text(end)}


def _row(row: dict[str, Any], series: Series, names: Sequence[str]) -> dict[str, Any]:
    """Return a hard row with the names of its classes, and where it comes from."""

    def name(index: int | None) -> str | None:
        return names[index] if index is not None and 0 <= index < len(names) else None

    return {
        **row,
        "time": times.text(row["time"]),
        "label_name": name(row["label"] if row["class_index"] is None else row["class_index"]),
        "prediction_name": name(row["prediction"]) if row["class_index"] is None else None,
        "series": series.name,
        "model": series.model,
        "model_version": series.model_version,
    }
