"""Baseline against candidate: how far their mean losses differ, and how surely.

Paired, where every row has a name: in replicate b of the Poisson bootstrap a sample counts k times,
k the same wherever the sample occurs (:mod:`service.history.replicates`). So the difference

    d_b = mean of the candidate in b - mean of the baseline in b

varies over b as d does over samples: what both sides share cancels, also where they were posted
on different days, and clusters stay together. Its standard deviation over the B replicates is the
standard error of d; Chamandy, Muralidharan, Najmi, Naidu, "Estimating Uncertainty for Massive Data
Streams", Google 2012. That deviation is itself an estimate from B = 128 numbers, independent of d,
so d / error follows Student's t with B - 1 degrees of freedom, not the normal distribution: with
the latter intervals of 95 % would hold 94.8 %. The rows that the replicates draw from are estimated
from too; both uncertainties add (Satterthwaite, 1946): 1/df = 1/(B - 1) + 1/(units - 1).

How many independent units there are, clusters taken as one, the replicates tell as well: their
weights vary by Var W_b = sum of (weight of a unit)^2, and units = W^2 / Var W_b is Kish's number.

Otherwise Welch's t test ("The generalization of Student's problem", Biometrika 34, 1947) with the
delta method's errors of the two ratios; rows that both sides share make it careful, not wrong.

Classes are tested one by one and their p adjusted together (Benjamini and Hochberg, "Controlling
the false discovery rate", JRSS B 57, 1995): of the classes that are called worse or better at most
a share of alpha is so by chance, on average.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from service.history.moments import ROUNDING, Moments, Numbers
from service.history.overlap import Overlap, overlap
from service.history.sums import ALL_CLASSES, Records, Sums

# Fewer independent units on a side, and nothing is said: means of losses are far from normal then.
LEAST_UNITS: Final = 20
# Fewer replicates that hold rows of both sides, and they say nothing.
LEAST_REPLICATES: Final = 100

Method = Literal["paired_poisson_bootstrap", "welch"]
Verdict = Literal["worse", "better", "no_difference", "insufficient"]


@dataclass(frozen=True, slots=True)
class Side:
    """One side: rows, their mean loss in nats, and the interval of that mean; NaN: undefined."""

    rows: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate - baseline, nats. NaN where there are too few units to say."""

    baseline: Side
    candidate: Side
    value: float
    low: float
    high: float
    p: float
    method: Method

    def verdict(self, p: float, alpha: float) -> Verdict:
        """Return what the difference means at a level, with a p that may be adjusted."""
        if math.isnan(p):
            return "insufficient"
        if p > alpha:
            return "no_difference"
        return "worse" if self.value > 0 else "better"


@dataclass(frozen=True, slots=True)
class ClassDifference:
    """The difference of one class, and its p adjusted for all classes that were tested."""

    index: int
    difference: Difference
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Baseline against candidate."""

    whole: Difference
    classes: list[ClassDifference]
    overlap: Overlap
    alpha: float


def compare(baseline: Sums, candidate: Sums, *, alpha: float = 0.05) -> Comparison:
    """Compare the losses of two sides, which must have the same unit.

    Args:
        baseline: what was evaluated, with all its replicates, classes and sketch.
        candidate: the same.
        alpha: level of tests; intervals hold with probability 1 - alpha.
    """
    paired = _covered(baseline) and _covered(candidate)
    sides = (baseline, candidate)
    whole = _difference((_of_all(baseline), _of_all(candidate)), _drawn(sides, paired), alpha)
    rows = [_of_classes(side) for side in sides]
    replicates = [_drawn_by_class(side) if paired else {} for side in sides]
    found = {
        index: _difference(
            (rows[0].get(index, _NOTHING), rows[1].get(index, _NOTHING)),
            _both(replicates[0].get(index), replicates[1].get(index)),
            alpha,
        )
        for index in sorted(rows[0].keys() | rows[1].keys())
    }
    adjusted = _adjusted([each.p for each in found.values()])
    classes = [
        ClassDifference(index, each, p)
        for (index, each), p in zip(found.items(), adjusted, strict=True)
    ]
    return Comparison(whole, classes, overlap(baseline.sketch, candidate.sketch), alpha)


def _difference(
    sides: tuple[Moments, Moments], drawn: tuple[Records, Records] | None, alpha: float
) -> Difference:
    return _welch(sides, alpha) if drawn is None else _paired(sides, drawn, alpha)


def _paired(
    sides: tuple[Moments, Moments], drawn: tuple[Records, Records], alpha: float
) -> Difference:
    weights = np.stack([each["weight_sums"] for each in drawn])
    kept = (weights > 0).all(axis=0)
    count = int(kept.sum())
    if count < LEAST_REPLICATES:
        return _untold(sides, alpha, "paired_poisson_bootstrap")
    weights = weights[:, kept]
    one, other = np.stack([each["loss_sums"] for each in drawn])[:, kept] / weights
    totals = np.array([float(side.w) for side in sides])
    with np.errstate(divide="ignore"):
        units = totals**2 / weights.var(axis=1, ddof=1)
    if units.min() <= 1:
        return _untold(sides, alpha, "paired_poisson_bootstrap")
    of = np.array([*units, units.min()])
    # The bootstrap of n units varies as they do around their own mean: n - 1 degrees of freedom.
    deviations = np.array([each.std(ddof=1) for each in (one, other, other - one)])
    errors = deviations * np.sqrt(of / (of - 1))
    freedom = 1 / (1 / (count - 1) + 1 / (of - 1))
    return _stated(sides, units, errors, freedom, alpha, "paired_poisson_bootstrap")


def _welch(sides: tuple[Moments, Moments], alpha: float) -> Difference:
    units = np.array([float(side.units) for side in sides])
    if units.min() <= 1:
        return _untold(sides, alpha, "welch")
    squares = np.array([float(side.error) for side in sides]) ** 2
    both = squares.sum()
    # Welch and Satterthwaite; without any variance there is nothing to have degrees of freedom of.
    freedom = both**2 / (squares**2 / (units - 1)).sum() if both > 0 else units.min() - 1
    errors = np.sqrt(np.array([*squares, both]))
    return _stated(sides, units, errors, np.array([*(units - 1), freedom]), alpha, "welch")


def _untold(sides: tuple[Moments, Moments], alpha: float, method: Method) -> Difference:
    """Return the difference of which nothing is known but its value."""
    return _stated(sides, np.zeros(2), np.full(3, np.nan), np.ones(3), alpha, method)


def _stated(
    sides: tuple[Moments, Moments],
    units: Numbers,
    errors: Numbers,
    freedom: Numbers,
    alpha: float,
    method: Method,
) -> Difference:
    """Return the difference with its interval, and the sides with theirs.

    Args:
        sides: baseline and candidate.
        units: independent rows of each side, (2,).
        errors: standard errors of baseline, candidate and difference, (3,).
        freedom: degrees of freedom of these errors, (3,).
        alpha: level.
        method: how the errors were found.
    """
    means = [float(side.mean) for side in sides]
    value = means[1] - means[0]
    # What is added in another order differs in its last digits: that is no difference.
    errors = np.maximum(errors, ROUNDING * (abs(means[0]) + abs(means[1])))
    told = units >= LEAST_UNITS
    margins = [
        float(stats.t.ppf(1 - alpha / 2, df) * error) if enough else math.nan
        for df, error, enough in zip(freedom, errors, (*told, told.all()), strict=True)
    ]
    baseline, candidate = (
        Side(round(float(side.rows)), mean, mean - margin, mean + margin)
        for side, mean, margin in zip(sides, means, margins[:2], strict=True)
    )
    return Difference(
        baseline=baseline,
        candidate=candidate,
        value=value,
        low=value - margins[2],
        high=value + margins[2],
        p=_p(value, float(errors[2]), float(freedom[2])) if told.all() else math.nan,
        method=method,
    )


def _p(value: float, error: float, freedom: float) -> float:
    if error == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stats.t.sf(abs(value) / error, freedom))


def _adjusted(ps: list[float]) -> list[float]:
    adjusted = np.array(ps, np.float64)
    tested = ~np.isnan(adjusted)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(adjusted[tested], method="bh")
    return [float(p) for p in adjusted]


def _covered(sums: Sums) -> bool:
    """Whether the replicates hold every evaluated row."""
    return 0 < sums.evaluated == sums.replicated


def _drawn(sides: tuple[Sums, Sums], paired: bool) -> tuple[Records, Records] | None:
    if not paired:
        return None
    return _both(*(_drawn_by_class(side, everything=True).get(ALL_CLASSES) for side in sides))


def _drawn_by_class(sums: Sums, *, everything: bool = False) -> Mapping[int, Records]:
    return {
        int(record["class"]): record
        for record in sums.replicates
        if (record["class"] == ALL_CLASSES) == everything
    }


def _both(one: Records | None, other: Records | None) -> tuple[Records, Records] | None:
    return None if one is None or other is None else (one, other)


def _of_all(sums: Sums) -> Moments:
    return _moments(
        sums.evaluated,
        sums.loss_sum,
        sums.weight_sum,
        sums.loss_square_sum,
        sums.loss_weight_sum,
        sums.weight_square_sum,
    )


_NAMES: Final = (
    "support",
    "loss_sum",
    "weight",
    "loss_square_sum",
    "loss_weight_sum",
    "weight_square_sum",
)


def _of_classes(sums: Sums) -> dict[int, Moments]:
    """Return the moments of every class that rows belong to."""
    return {
        int(record["class"]): _moments(*(float(record[name]) for name in _NAMES))
        for record in sums.classes
        if record["support"] > 0
    }


def _moments(*numbers: float) -> Moments:
    return Moments(*(np.asarray(number, np.float64) for number in numbers))


_NOTHING: Final = _moments(0, 0, 0, 0, 0, 0)
