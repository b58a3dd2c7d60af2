"""Labels as a graph takes them: checked as far as a graph can, and brought to one form."""

from dataclasses import dataclass
from typing import Final, Literal

from service.graphs.expression import DOUBLE, FLOAT, INT64, Graph, Value, where
from xentcore import LabelKind

Reading = Literal["classes", "elements", "ranks"]
"""What labels are about: one class of each row, each element, or how many columns are passed."""

# How far from 1 a distribution's sum may be.
_SUM_TOLERANCE: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of the rows, in one of two forms.

    Attributes:
        index: the class of each row, int64, (rows, 1); 0 where there is none.
        targets: t of every class, float64, (rows, classes).
        ignored: rows to leave out, bool, (rows, 1).
        valid: rows whose label is one, bool, (rows, 1).
    """

    index: Value | None
    targets: Value | None
    ignored: Value
    valid: Value


def read_labels(
    graph: Graph, kind: LabelKind, reading: Reading, *, classes: int, ignore_index: int | None
) -> Labels:
    """Declare the input ``labels`` and return what it holds."""
    if kind == "integer":
        return _indices(graph, reading, classes, ignore_index)
    return _entries(graph, kind, reading, classes, ignore_index)


def _indices(graph: Graph, reading: Reading, classes: int, ignore_index: int | None) -> Labels:
    last = classes if reading == "ranks" else classes - 1
    ignoring = "" if ignore_index is None else f"; {ignore_index} leaves the row out"
    what = "the rank" if reading == "ranks" else "the class"
    given = graph.input("labels", INT64, ["rows"], f"{what} of each row, 0 to {last}{ignoring}")
    label = given.as_column()
    ignored = _is(graph, label, ignore_index)
    valid = (label >= graph.whole_number(0)) & (label <= graph.whole_number(last))
    index = where(valid, label, graph.whole_number(0))
    if reading == "classes":
        return Labels(index, None, ignored, valid)
    places = graph.range(classes)
    # A rank is above the thresholds before it.
    yes = places < index if reading == "ranks" else places.equals(index)
    return Labels(None, yes.cast(DOUBLE), ignored, valid)


def _is(graph: Graph, label: Value, ignore_index: int | None) -> Value:
    if ignore_index is None:
        return graph.never()
    return label.equals(graph.whole_number(ignore_index))


def _entries(
    graph: Graph, kind: LabelKind, reading: Reading, classes: int, ignore_index: int | None
) -> Labels:
    ignoring = "" if ignore_index is None else f"; a row of {ignore_index} is left out"
    words = f"{kind}: t of every row and class, 0 to 1{ignoring}"
    given = graph.input("labels", FLOAT, ["rows", classes], words)
    t = given.cast(DOUBLE)
    ignored = graph.never() if ignore_index is None else t.equals(ignore_index).row_all()
    total = t.row_sum()
    if kind == "probabilities":
        valid = ((t >= 0.0) & (t <= 1.0)).row_all()
        if reading == "classes":
            valid = valid & ((total - 1.0).abs() <= _SUM_TOLERANCE)
    else:
        valid = (t.equals(0.0) | t.equals(1.0)).row_all()
        if kind == "one_hot":
            valid = valid & total.equals(1.0)
    if reading == "ranks" and classes > 1:
        valid = valid & _is_falling(t, classes)
    if kind == "one_hot" and reading == "classes":
        return Labels(t.row_peak(), None, ignored, valid)
    return Labels(None, where(valid, t, 0.0), ignored, valid)


def _is_falling(t: Value, classes: int) -> Value:
    """Return whether no column of a row is above the one before it, (rows, 1)."""
    first, last, axis = t.graph.whole(0), t.graph.whole(classes), t.graph.whole(1)
    before = t.apply("Slice", first, t.graph.whole(classes - 1), axis)
    return (t.apply("Slice", axis, last, axis) <= before).row_all()
