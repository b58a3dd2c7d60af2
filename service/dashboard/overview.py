"""What the overview consists of: numbers at a glance, a metric over time, losses, events."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from service.dashboard.histogram import Bucket, histogram
from service.dashboard.state import State
from service.dashboard.wording import length
from service.history import annotations, breakdown, stack, times
from service.history.metrics import METRICS, STATUS
from service.history.selection import cover, gather

_LOSS: Final = METRICS["loss.mean"]
_COUNTED: Final = ("batches", "ignored")
MOST_EVENTS: Final = 12
POINT_PX: Final = 10
FEWEST_POINTS, MOST_POINTS = 30, 120
DEFAULT_METRIC: Final = "loss.mean"
KINDS: Final = {
    "version": "new version",
    "schema": "classes changed",
    "correction": "labels",
    "alert": "alert",
    "note": "note",
}


def summary(state: State, alerts: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return the numbers at a glance."""
    series = state.series
    names = list(dict.fromkeys((*_LOSS.columns, *_COUNTED, *STATUS)))
    found = gather(state.view, series, cover(state.selection, series), names)
    whole = stack.fold(found.sums, np.zeros(found.sums.count, np.int64), 1)
    loss = _LOSS.of(whole)
    count = {name: int(whole.scalars[name][0]) for name in (*_COUNTED, *STATUS)}
    newest = max((each.last for each in series), default=None)
    return {
        "newest": newest,
        "age": None if newest is None else length(time.time_ns() // 1000 - newest),
        "loss": [float(each[0]) for each in (loss.value, loss.low, loss.high)],
        "count": count,
        "labelled": count["rows"] - count["ignored"],
        "unit": state.unit,
        "firing": [each for each in alerts if each["state"] == "firing"],
        "alerts": len(alerts),
        "api": state.api("series"),
    }


def timeline(state: State, width: int) -> dict[str, object]:
    """Return where the browser finds a metric over time, and what to draw beside it."""
    metric = state.first("metric", DEFAULT_METRIC)
    models = {each.model for each in state.series}
    by = state.first("by") or ("model,model_version" if len(models) > 1 else "model_version")
    step = state.first("step")
    points = max(FEWEST_POINTS, min(MOST_POINTS, width // POINT_PX))
    how = ("step", step) if step else ("max_points", str(points))
    extra = (("metric", metric), ("by", by), how)
    reference = state.reference_span()
    known = METRICS.get(metric)
    return {
        "metric": metric,
        "unit": None if known is None else known.unit,
        "summary": None if known is None else known.summary,
        "api": state.api("timeseries", *extra),
        "annotations": state.api("annotations"),
        "reference": None if reference is None else [times.text(each) for each in reference],
        "is_reference_given": state.is_reference_given,
    }


def losses(state: State, width: int) -> dict[str, object]:
    """Return the histogram of the losses of rows."""
    answer = breakdown.histogram(state.view, state.referring)
    reference = answer["reference"]
    quantiles = {name: each["value"] for name, each in answer["quantiles"].items()}
    now, before = _buckets(answer), _buckets(reference)
    return {
        "answer": answer,
        "chart": histogram(now, before, quantiles=quantiles, width=width) if now else None,
        "sides": [("now", answer), *([("reference", reference)] if before else [])],
        "api": state.api("histogram", reference=True),
    }


def events(state: State, alerts: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return alerts, the firing ones first, and the latest annotations."""
    found = annotations.answer(state.view, state.selection)["annotations"]
    return {
        "alerts": sorted(alerts, key=lambda each: each["state"] != "firing"),
        "events": [{**each, "at": times.parse(each["time"])} for each in found[:MOST_EVENTS]],
        "more": max(0, len(found) - MOST_EVENTS),
        "kinds": KINDS,
        "api": state.api("annotations"),
    }


def _buckets(answer: Mapping[str, Any] | None) -> list[Bucket]:
    if answer is None:
        return []
    columns = answer["buckets"]
    return [
        Bucket(*each)
        for each in zip(columns["lower"], columns["upper"], columns["count"], strict=True)
    ]
