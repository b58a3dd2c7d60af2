"""The shared harness: interleaved repetitions, medians, ratios."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

WARM_UPS: Final = 2
QUARTERS: Final = 4


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
        sample: its measurements.
        baseline: the name of the row it is compared with; ``None`` for a baseline itself.
        target: the ratio to its baseline must be ``("<=", 3.0)``, say; ``None`` for no target.
        limit: what limits it, shown where the target is missed.
    """

    name: str
    sample: Sample
    baseline: str | None = None
    target: tuple[str, float] | None = None
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one idea.

    Attributes:
        title: what they are about.
        unit: of every sample.
        rows: measured side by side.
        notes: what a reader should know.
    """

    title: str
    unit: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())

    def ratio(self, row: Row) -> float | None:
        """Return a row's median over its baseline's; ``None`` for a baseline."""
        if row.baseline is None:
            return None
        base = next(each for each in self.rows if each.name == row.baseline)
        return row.sample.median / base.sample.median

    def met(self, row: Row) -> bool | None:
        """Tell whether a row meets its target; ``None`` where it has none."""
        ratio = self.ratio(row)
        if row.target is None or ratio is None:
            return None
        sign, bound = row.target
        return ratio <= bound if sign == "<=" else ratio < bound


def interleaved(cases: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, Sample]:
    """Return milliseconds of each case, taken in turn, so that a slow moment hits them all."""
    for case in cases.values():
        for _ in range(WARM_UPS):
            case()
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repetitions):
        for name, case in cases.items():
            started_ns = time.perf_counter_ns()
            case()
            found[name].append((time.perf_counter_ns() - started_ns) / 1e6)
    return {name: Sample(tuple(values)) for name, values in found.items()}
