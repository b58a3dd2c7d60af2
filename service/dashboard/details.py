"""Where the loss comes from: classes over time, their shares, confidence, single rows."""

from collections.abc import Mapping
from typing import Any, Final

from service.dashboard.heatmap import STEPS, Cell, HeatRow, heatmap
from service.dashboard.reliability import Bin, reliability
from service.dashboard.state import State
from service.history import breakdown, classes, times
from service.history.questions import read

SHOWN: Final = "top:25"
CELL_PX: Final = 24
LABELS_PX: Final = 140
FEWEST_CELLS, MOST_CELLS = 12, 40


def changes(state: State, width: int) -> dict[str, object]:
    """Return the heatmap of classes by time."""
    points = max(FEWEST_CELLS, min(MOST_CELLS, (width - LABELS_PX) // CELL_PX))
    extra = (("class", SHOWN), ("step", "auto"), ("max_points", str(points)))
    answer = _classes(state, *extra)
    cells = answer["map"]
    rows = [_row(cells, at) for at in range(len(cells["class"]))]
    starts = [times.parse(each) for each in cells["time"]]
    step_us = cells["step_s"] * times.SECOND
    return {
        "chart": heatmap(rows, starts, step_us=step_us, width=width) if rows else None,
        "rows": rows,
        "times": starts,
        "bases": cells["base"],
        "steps": STEPS,
        "answer": answer,
        "reference": state.reference_span(),
        "is_reference_given": state.is_reference_given,
        "api": state.api("classes", *extra, reference=True),
    }


def shares(state: State) -> dict[str, object]:
    """Return the table of classes."""
    extra = (("class", SHOWN),)
    return {
        "answer": _classes(state, *extra),
        "has_reference": bool(state.reference),
        "api": state.api("classes", *extra, reference=True),
    }


def confidence(state: State, width: int) -> dict[str, object]:
    """Return the reliability diagram, and the numbers that sum it up."""
    answer = breakdown.calibration(state.view, state.referring)
    reference = answer["reference"]
    if reference is not None and not reference["decisions"]:
        reference = None
    bins, before = _bins(answer), _bins(reference)
    return {
        "answer": answer,
        "reference": reference,
        "bins": [each for each in bins if each.count],
        "chart": reliability(bins, before, width=width) if answer["decisions"] else None,
        "api": state.api("calibration", reference=True),
    }


def rows(state: State) -> dict[str, object]:
    """Return the rows of largest loss."""
    answer = breakdown.hardest(state.view, read(breakdown.HardestQuestion, state.selected))
    found = [{**each, "at": times.parse(each["time"])} for each in answer["rows"]]
    return {
        "rows": found,
        "by_class": any(each["class_index"] is not None for each in found),
        "api": state.api("hardest"),
    }


def _classes(state: State, *extra: tuple[str, str]) -> dict[str, Any]:
    pairs = (*state.selected, *state.reference, *extra)
    return classes.answer(state.view, read(classes.Question, pairs))


def _row(cells: Mapping[str, Any], at: int) -> HeatRow:
    base = cells["base"][at]
    found = [
        Cell(value, value / base if value is not None and base else None, count)
        for value, count in zip(cells["loss_mean"][at], cells["support"][at], strict=True)
    ]
    return HeatRow(cells["class"][at], found)


def _bins(answer: Mapping[str, Any] | None) -> list[Bin]:
    if answer is None:
        return []
    bins = answer["bins"]
    names = ("lower", "upper", "count", "confidence_mean", "accuracy", "low", "high")
    return [Bin(*each) for each in zip(*(bins[name] for name in names), strict=True)]
