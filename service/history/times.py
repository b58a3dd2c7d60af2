"""Time as the history keeps it: whole microseconds since 1970, UTC; and the buckets of rollups."""

import re
import time as clock
from datetime import UTC, datetime, timedelta
from typing import Final

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

# Lengths of the buckets that are kept, in microseconds; each is a whole number of the one before.
# So close that a bucket of a chart is made of few: of at most six, up to two days.
LEVELS: Final = (MINUTE, 5 * MINUTE, HOUR, 6 * HOUR, DAY)

# Steps that a chart may have where none is asked for. Each is whole buckets of a level.
STEPS: Final = (
    *(n * MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * HOUR for n in (1, 2, 3, 6, 12)),
    *(n * DAY for n in (1, 2, 7, 14, 28, 91, 364)),
)

_UNITS: Final = {"m": MINUTE, "h": HOUR, "d": DAY}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STEP: Final = re.compile(r"([1-9]\d{0,5})([mhd])")


def now() -> int:
    """Return the time."""
    return clock.time_ns() // 1000


def to_us(time: datetime) -> int:
    """Return microseconds since 1970, UTC. Raises ValueError for a time without an offset."""
    if time.utcoffset() is None:
        raise ValueError(
            "the time has no offset: end it with Z or +hh:mm, as in 2026-01-31T12:00:00Z"
        )
    return (time - _EPOCH) // timedelta(microseconds=1)


def from_us(time_us: int) -> datetime:
    """Return the aware time in UTC."""
    return _EPOCH + timedelta(microseconds=time_us)


def text(time_us: int) -> str:
    """Return the time as RFC 3339 in UTC; microseconds only where there are some."""
    return from_us(time_us).isoformat().replace("+00:00", "Z")


def parse(value: str) -> int:
    """Return the microseconds of an RFC 3339 time with an offset, or of milliseconds since 1970.

    Raises:
        ValueError: it is neither, or has no offset.
    """
    if re.fullmatch(r"-?\d{1,15}", value):
        return int(value) * 1000
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(
            "write a time as 2026-01-31T12:00:00Z, or as milliseconds since 1970"
        ) from None
    return to_us(time)


def floor(time_us: int, length_us: int) -> int:
    """Return the start of the bucket that holds the time; buckets are counted from 1970."""
    return time_us - time_us % length_us


def parse_step(value: str) -> int:
    """Return the microseconds of a step such as ``15m``, ``6h`` or ``1d``. Raises ValueError."""
    match = _STEP.fullmatch(value)
    if match is None:
        raise ValueError("write a step as 15m, 6h or 1d, or auto")
    return int(match[1]) * _UNITS[match[2]]


def step_text(step_us: int) -> str:
    """Return a step, of whole minutes, as :func:`parse_step` reads it."""
    unit, length = next(each for each in reversed(_UNITS.items()) if step_us % each[1] == 0)
    return f"{step_us // length}{unit}"


def auto_step(span_us: int, max_points: int) -> int:
    """Return the shortest of :data:`STEPS` that covers a span in at most that many buckets."""
    # One more than the quotient: a span may begin in the middle of a bucket.
    fitting = (step for step in STEPS if span_us // step + 1 <= max_points)
    return next(fitting, STEPS[-1])


def level_of(step_us: int) -> int:
    """Return the longest of :data:`LEVELS` that a step is a whole number of."""
    return max(level for level in LEVELS if step_us % level == 0)
