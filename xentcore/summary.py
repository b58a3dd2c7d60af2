"""The mergeable sums of one variant over any number of rows.

A summary is sums and counts only. Adding two gives the summary of both batches; what is divided by
what is decided once, in :mod:`xentcore.result`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from xentcore.calibration import CalibrationSums
from xentcore.hardest import Hardest
from xentcore.histogram import Histogram
from xentcore.options import Output
from xentcore.per_class import Sums

State = dict[str, Tensor]


@dataclass(slots=True)
class RowCounts:
    """What became of rows, and how many there were."""

    total: int = 0
    ignored: int = 0
    nonfinite: int = 0
    infinite: int = 0
    evaluated: int = 0
    saturated: int = 0

    def merge(self, other: "RowCounts") -> None:
        """Add what another evaluation counted."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Summary:
    """Counts, the loss and its weight, sums per class, and what else was asked for.

    Attributes:
        rows: what became of the rows.
        loss_sum: nats, all weights included.
        weight_sum: the ``weights`` denominator.
        classes: sums per class, (classes,), float64 and int64; empty before the first row.
        histogram: per-row losses, if asked for.
        calibration: reliability, if asked for.
        hardest: rows of largest loss, if asked for.
        squares: sums over rows of x^2, x w and w^2, (3,), float64, if asked for; x what a row adds
            to ``loss_sum``, w what it adds to ``weight_sum``.
    """

    rows: RowCounts = field(default_factory=RowCounts)
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    classes: Sums = field(default_factory=dict)
    histogram: Histogram | None = None
    calibration: CalibrationSums | None = None
    hardest: Hardest | None = None
    squares: Tensor | None = None

    @classmethod
    def empty(
        cls, outputs: Collection[Output], *, hardest: int, squares: bool = False
    ) -> "Summary":
        """Return the summary of no rows: merging it changes nothing."""
        return cls(
            histogram=Histogram.empty() if "distribution" in outputs else None,
            calibration=CalibrationSums() if "calibration" in outputs else None,
            hardest=Hardest(limit=hardest) if "hardest" in outputs else None,
            squares=torch.zeros(3, dtype=torch.float64) if squares else None,
        )

    def merge(self, other: "Summary", *, first_row: int = 0) -> None:
        """Add another summary, whose row 0 is this one's row ``first_row``."""
        self.rows.merge(other.rows)
        self.loss_sum += other.loss_sum
        self.weight_sum += other.weight_sum
        for name, sums in other.classes.items():
            # Not in place: an answer given before keeps its columns.
            known = self.classes.get(name)
            self.classes[name] = sums if known is None else known + sums.to(known.device)
        if self.histogram is not None and other.histogram is not None:
            self.histogram.merge(other.histogram)
        if self.calibration is not None and other.calibration is not None:
            self.calibration.merge(other.calibration)
        if self.hardest is not None and other.hardest is not None:
            self.hardest.merge(other.hardest, first_row=first_row)
        if self.squares is not None and other.squares is not None:
            self.squares = self.squares + other.squares

    def state(self) -> State:
        """Return everything as plain CPU tensors by name."""
        counts = [getattr(self.rows, name) for name in RowCounts.__slots__]
        state: State = {
            "rows": torch.tensor(counts, dtype=torch.int64),
            "sums": torch.tensor([self.loss_sum, self.weight_sum], dtype=torch.float64),
        }
        state |= {f"classes.{name}": sums.cpu().clone() for name, sums in self.classes.items()}
        if self.histogram is not None:
            state["histogram.counts"] = self.histogram.counts.clone()
            state["histogram.extremes"] = torch.tensor(
                [self.histogram.minimum, self.histogram.maximum], dtype=torch.float64
            )
        if self.calibration is not None:
            state |= {f"calibration.{k}": v for k, v in self.calibration.state().items()}
        if self.hardest is not None:
            state["hardest"] = self.hardest.state()
        if self.squares is not None:
            state["squares"] = self.squares.clone()
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Replace everything by what :meth:`state` returned."""
        self.rows = RowCounts(*state["rows"].tolist())
        self.loss_sum, self.weight_sum = state["sums"].tolist()
        self.classes = {name: sums.clone() for name, sums in below("classes.", state).items()}
        if self.histogram is not None:
            low, high = state["histogram.extremes"].tolist()
            self.histogram = Histogram(state["histogram.counts"].clone(), low, high)
        if self.calibration is not None:
            self.calibration = CalibrationSums.from_state(below("calibration.", state))
        if self.hardest is not None:
            self.hardest.load(state["hardest"])
        if self.squares is not None:
            self.squares = state["squares"].clone()


def below(prefix: str, state: Mapping[str, Tensor]) -> State:
    """Return the part of a state whose names start with the prefix, without it."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
