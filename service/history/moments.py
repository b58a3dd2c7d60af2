"""What a ratio of sums is known from: its sums, and those of their squares and products.

A mean of rows is ``m = sum x / sum w``: ``x`` what a row adds to the numerator, ``w`` what it adds
to the denominator. Six sums say how large it is and how far it can be trusted, and they add up.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

# Two sums of the same rows in another order agree to this, relative to what was added.
ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Moments:
    """The sums of one place or of a row of places (buckets, classes): arrays of one shape.

    Attributes:
        rows: how many.
        x, w: sums of numerator and denominator.
        xx, xw, ww: sums over rows of x^2, x*w and w^2.
    """

    rows: Numbers
    x: Numbers
    w: Numbers
    xx: Numbers
    xw: Numbers
    ww: Numbers

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: slice | NDArray[np.bool_]) -> "Moments":
        return Moments(*(each[place] for each in self.sums()))

    def sums(self) -> tuple[Numbers, ...]:
        """Return the six sums, in their order."""
        return (self.rows, self.x, self.w, self.xx, self.xw, self.ww)

    def total(self) -> "Moments":
        """Return the sums of all places together: numbers without an axis."""
        return Moments(*(np.asarray(each.sum(axis=-1)) for each in self.sums()))

    def running(self) -> "Moments":
        """Return for every place the sums up to it, with it."""
        return Moments(*(each.cumsum(axis=-1) for each in self.sums()))

    @property
    def mean(self) -> Numbers:
        """The ratio; NaN where the denominator is not above 0."""
        return _ratio(self.x, self.w)

    @property
    def units(self) -> Numbers:
        """How many equally weighted rows tell as much: (sum w)^2 / sum w^2 (Kish, 1965)."""
        return np.nan_to_num(_ratio(self.w**2, self.ww))

    @property
    def spread(self) -> Numbers:
        """The standard deviation of a unit: the error of a mean over n units is spread / sqrt(n).

        The delta method for a ratio: Var(m) ~ sum (x - m w)^2 / (sum w)^2 * n / (n - 1). Infinite
        for fewer than two units: nothing is known.
        """
        squares = self.xx - 2 * self.mean * self.xw + self.mean**2 * self.ww
        units = self.units
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = units * np.maximum(squares, 0) / self.w**2 * units / (units - 1)
        return np.where(units > 1 + ROUNDING, np.sqrt(variance), np.inf)

    @property
    def error(self) -> Numbers:
        """The standard error of the mean; infinite where nothing is known."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.units > 0, self.spread / np.sqrt(self.units), np.inf)


def together(parts: Sequence[Moments]) -> Moments:
    """Return the moments of single places as one row of places."""
    columns = zip(*(astuple(part) for part in parts), strict=True)
    return Moments(*(np.asarray(column, np.float64) for column in columns))


def dispersion(buckets: Moments, *, least: int = 8) -> float:
    """Return how many times more the means of buckets differ than independent rows would let them.

    Pearson's statistic over its degrees of freedom: mean over buckets of D^2 / V, D what a bucket's
    numerator is off, V the variance that its rows give it. Rows of the same hour are alike, and
    hours of the day are not: intervals that know nothing of it raise alarms.

    Returns:
        1 or more; 1 where there are fewer buckets than ``least`` to tell from.
    """
    known = buckets[buckets.units > 1]
    if len(known) < least:
        return 1.0
    whole = known.total()
    off = (known.mean - whole.mean) ** 2 * known.units
    variance = float(whole.spread) ** 2
    if variance == 0:
        return 1.0
    return max(1.0, float(off.sum()) / variance / (len(known) - 1))


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)
