"""The shared harness: interleaved repetitions, medians, ratios, and what is drawn of them."""

import operator
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

WARM_UPS: Final = 2
QUARTERS: Final = 4
SIGNS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """Repeated measurements of one thing, in one unit."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Interquartile range."""
        if len(self.values) == 1:
            return 0.0
        first, _, third = statistics.quantiles(self.values, n=QUARTERS, method="inclusive")
        return third - first


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing next to what it is compared with.

    Attributes:
        name: what was measured.
        sample: its measurements; ``None`` where it could not be measured.
        baseline: the name of the row it is compared with; ``None`` for a baseline itself.
        target: the ratio to its baseline must be ``("<=", 3.0)``, say, and without a baseline the
            median itself; ``None`` for no target.
        limit: what limits it, shown where the target is missed; without a sample, why.
    """

    name: str
    sample: Sample | None
    baseline: str | None = None
    target: tuple[str, float] | None = None
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot.

    Attributes:
        name: what the legend calls it.
        points: where on the first axis, and what was measured there.
    """

    name: str
    points: tuple[tuple[float, Sample], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn.

    Attributes:
        stem: of the file.
        title: what is drawn, and how it was measured.
        x: what the first axis is, with its unit.
        y: what the second axis is, with its unit.
        curves: the lines.
        logarithmic: both axes.
    """

    stem: str
    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    logarithmic: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one idea.

    Attributes:
        title: what they are about.
        unit: of every sample.
        rows: measured side by side.
        notes: what a reader should know.
        plot: the same as a picture.
    """

    title: str
    unit: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())
    plot: Plot | None = None

    def ratio(self, row: Row) -> float | None:
        """Return a row's median over its baseline's; ``None`` where one of them is missing."""
        if row.baseline is None or row.sample is None:
            return None
        base = next(each for each in self.rows if each.name == row.baseline)
        return None if base.sample is None else row.sample.median / base.sample.median

    def met(self, row: Row) -> bool | None:
        """Tell whether a row meets its target; ``None`` where it has none, or was not measured."""
        if row.target is None or row.sample is None:
            return None
        measured = row.sample.median if row.baseline is None else self.ratio(row)
        sign, bound = row.target
        return None if measured is None else SIGNS[sign](measured, bound)


def interleaved(cases: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, Sample]:
    """Return milliseconds of each case, taken in turn, so that a slow moment hits them all."""
    for case in cases.values():
        for _ in range(WARM_UPS):
            case()
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repetitions):
        for name, case in cases.items():
            found[name].append(milliseconds(case))
    return {name: Sample(tuple(values)) for name, values in found.items()}


def milliseconds(case: Callable[[], object]) -> float:
    """Return how long one call takes."""
    started_ns = time.perf_counter_ns()
    case()
    return (time.perf_counter_ns() - started_ns) / 1e6
