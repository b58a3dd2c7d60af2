"""Watching a mean: from buckets to "it fires since then", whenever and however often one looks.

At every bucket t, every bucket j <= t may be where something changed. The rows of j..t are weighed
against the target at the level alpha_j = alpha / (j (j + 1)), by a one-sided confidence sequence
(:mod:`service.history.sequences`) or, where the shift to look for is known, by a likelihood ratio
(:mod:`service.history.cusum`). Each holds at all t, the levels add up to alpha: as long as the mean
never lies beyond the target, an alarm ever comes with probability alpha at most.

After an alarm a second CUSUM looks for the way back: it weighs "at the target" against "still at
the level that raised the alarm", ends the alarm at a likelihood ratio of 1/alpha, and the search
begins anew. Everything is a function of the buckets: late and corrected rows need no care.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from service.history import cusum, sequences
from service.history.moments import Moments, Numbers, dispersion

# So many buckets back a change is looked for. Those before count for the levels alpha_j only.
LOOKBACK: Final = 2000


@dataclass(frozen=True, slots=True)
class Target:
    """What the mean must not lie beyond.

    Attributes:
        value: the threshold, or the bound of the reference's mean.
        alpha: what is left of the level for the alarm.
        spread: the least that a row's standard deviation is taken for.
        inflation: how much larger variances of means are than rows tell, 1 or more.
    """

    value: float
    alpha: float
    spread: float = 0.0
    inflation: float = 1.0


@dataclass(frozen=True, slots=True)
class Watch:
    """What to look for.

    Attributes:
        target: see there.
        sign: 1 for an alarm above the target, -1 below.
        first: a change needs the rows of this many units to be told.
        shift: the smallest that is worth an alarm; ``None``: any.
    """

    target: Target
    sign: int
    first: float
    shift: float | None = None


@dataclass(frozen=True, slots=True)
class Suspicion:
    """The rows that speak most for a change at one look.

    Attributes:
        start, end: the buckets that they begin and end in.
        mean: of these rows.
        bound: what their mean lies beyond, at all looks at once; ``None`` for a likelihood ratio.
        strength: an alarm above 0.
        rows: how many.
    """

    start: int
    end: int
    mean: float
    bound: float | None
    strength: float
    rows: int


@dataclass(frozen=True, slots=True)
class Finding:
    """How things stand after the last bucket.

    Attributes:
        firing: whether there is an alarm.
        since: the bucket of the last change from or to an alarm; ``None`` if there was none.
        suspicion: the newest, or the one that raised the alarm; ``None`` for too few rows.
    """

    firing: bool
    since: int | None
    suspicion: Suspicion | None


def reference_target(buckets: Moments, sign: int, alpha: float) -> Target | None:
    """Return the target that a reference sets, or ``None`` where it holds too few rows.

    The reference's mean is itself an estimate. Half of alpha goes to a bound for it (Student's t on
    the delta method's error, times the dispersion of its buckets), half is left for the alarm.
    """
    whole = buckets.total()
    units = float(whole.units)
    if units < 2:  # noqa: PLR2004  (one row has no spread)
        return None
    inflation = dispersion(buckets)
    margin = stats.t.ppf(1 - alpha / 2, units - 1) * float(whole.error) * math.sqrt(inflation)
    return Target(
        value=float(whole.mean) + sign * margin,
        alpha=alpha / 2,
        spread=float(whole.spread),
        inflation=inflation,
    )


def detect(buckets: Moments, watch: Watch, *, before: int = 0) -> Finding:
    """Return how things stand after the last of the buckets, which are in the order of time.

    Args:
        buckets: without gaps; one may be empty.
        watch: what to look for.
        before: buckets that were watched and are not here any more.
    """
    found = Finding(firing=False, since=None, suspicion=None)
    for found in findings(buckets, watch, before=before):  # noqa: B007  (the last is wanted)
        pass
    return found


def findings(buckets: Moments, watch: Watch, *, before: int = 0) -> Iterator[Finding]:
    """Yield how things stood after each of the buckets; arguments as of :func:`detect`."""
    if not len(buckets):
        return
    scan = _Scan(buckets, watch, before)
    for bucket in range(len(buckets)):
        scan.look(bucket)
        yield Finding(scan.firing, scan.since, scan.suspicion)


class _Scan:
    """Goes through the buckets and remembers what was found."""

    def __init__(self, buckets: Moments, watch: Watch, before: int) -> None:
        self._watch = watch
        self._buckets = buckets
        self._running = buckets.running()
        self._before = before
        self._mean = buckets.mean
        self._units = buckets.units
        self._spread = _spread_so_far(self._running, watch)
        self._steps = self._cusum_steps()
        self._begin = 0  # the first bucket that may be the start of a change
        self._way_back = 0.0
        self._level = watch.target.value
        self.firing = False
        self.since: int | None = None
        self.suspicion: Suspicion | None = None

    def look(self, bucket: int) -> None:
        """Take one more bucket in."""
        if self._units[bucket] <= 0:
            return
        if self.firing and self.suspicion is not None:
            self._recover(bucket, self.suspicion)
            return
        suspicion = self._suspect(bucket)
        if suspicion is None:
            return
        self.suspicion = suspicion
        if suspicion.strength > 0:
            self.firing, self.since, self._way_back = True, bucket, 0.0
            self._level = suspicion.mean

    def _suspect(self, bucket: int) -> Suspicion | None:
        starts = np.arange(self._begin, bucket + 1, dtype=np.float64)
        ends = Moments(*(each[bucket : bucket + 1] for each in self._running.sums()))
        own = self._buckets[self._begin : bucket + 1]
        before = self._running[self._begin : bucket + 1]
        since = Moments(
            *(
                end - sums + each
                for end, sums, each in zip(ends.sums(), before.sums(), own.sums(), strict=True)
            )
        )
        enough = since.units >= self._watch.first
        if not enough.any():
            return None
        surprise = cusum.surprise(starts + (self._before + 1))
        if self._steps is None:
            bounds, strengths = self._sequence(since, surprise, bucket)
            place = int(np.argmax(np.where(enough, strengths, -np.inf)))
        else:
            bounds = None
            strengths = self._ratio(bucket) - surprise + math.log(self._watch.target.alpha)
            # Where the shift is larger than the one looked for, the largest ratio reaches back to
            # before it. The rows that lie furthest beyond, in standard errors, tell when it was.
            away = self._watch.sign * (since.mean - self._watch.target.value)
            place = int(np.argmax(np.where(enough, away * np.sqrt(since.units), -np.inf)))
        return Suspicion(
            start=int(starts[place]),
            end=bucket,
            mean=float(since.mean[place]),
            bound=None if bounds is None else float(bounds[place]),
            strength=float(np.max(strengths[enough])),
            rows=round(float(since.rows[place])),
        )

    def _sequence(self, since: Moments, surprise: Numbers, bucket: int) -> tuple[Numbers, Numbers]:
        """Return bounds of the means, and how far in standard errors they lie beyond the target."""
        watch = self._watch
        alpha = watch.target.alpha
        # A few rows may happen to be alike: they vary as much as all rows do.
        spread = np.fmax(since.spread * math.sqrt(watch.target.inflation), self._spread[bucket])
        error = spread / np.sqrt(since.units)
        rho = sequences.tuning(watch.first, alpha)
        away = sequences.one_sided(since.units, np.exp(math.log(alpha) - surprise), rho)
        bounds = since.mean - watch.sign * away * error
        with np.errstate(divide="ignore", invalid="ignore"):
            strengths = watch.sign * (bounds - watch.target.value) / error
        return bounds, np.nan_to_num(strengths, nan=-np.inf)

    def _cusum_steps(self) -> Numbers | None:
        watch = self._watch
        if watch.shift is None:
            return None
        excess = watch.sign * (self._mean - watch.target.value)
        return np.cumsum(cusum.steps(excess, self._units, watch.shift, self._spread))

    def _ratio(self, bucket: int) -> Numbers:
        """Return the logarithm of the likelihood ratio of the rows since each start."""
        sums = self._steps
        if sums is None:
            raise TypeError("no shift to look for")
        earlier = np.concatenate([np.zeros(1), sums])[self._begin : bucket + 1]
        return np.asarray(sums[bucket] - earlier)

    def _recover(self, bucket: int, suspicion: Suspicion) -> None:
        """Weigh the way back, and begin anew where it is found."""
        watch, target = self._watch, self._watch.target
        spread = self._spread[bucket]
        gap = watch.sign * (self._level - target.value)
        towards = watch.sign * ((self._level + target.value) / 2 - self._mean[bucket])
        added = self._units[bucket] * gap * towards / spread**2 if spread > 0 else towards * np.inf
        self._way_back = max(0.0, self._way_back + float(np.nan_to_num(added)))
        if self._way_back >= math.log(1 / target.alpha):
            self.firing, self.since, self._begin = False, bucket, bucket + 1
        elif self._way_back == 0:
            # What raises an alarm overstates the level. As long as nothing speaks for the way back,
            # rows since then correct it.
            level = float(self._since(suspicion.start, bucket).mean)
            self._level = level if watch.sign * (level - target.value) > 0 else self._level

    def _since(self, start: int, bucket: int) -> Moments:
        """Return what the buckets from one up to another add up to."""
        return self._buckets[start : bucket + 1].total()


def _spread_so_far(running: Moments, watch: Watch) -> Numbers:
    """Return for each bucket the standard deviation of a row, as all rows up to it tell.

    Few rows of a skewed distribution do not: those before the first look take what it tells.
    """
    told = running.units >= watch.first
    first = int(np.argmax(told)) if told.any() else len(running) - 1
    spread = running.spread.copy()
    spread[:first] = spread[first]
    return np.fmax(spread, watch.target.spread) * math.sqrt(watch.target.inflation)
