"""Numbers and times as a person reads them."""

import math
from typing import Final

from service.history.times import DAY, HOUR, MINUTE, SECOND, from_us

NONE: Final = "\N{EN DASH}"
MINUS: Final = "\N{MINUS SIGN}"
_TEN: Final = 10  # percent: from here on, tenths say nothing
_EXPONENTS: Final = (1e-4, 1e7)
_UNITS: Final = ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"))


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with that many significant digits."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    low, high = _EXPONENTS
    if not low <= abs(value) < high:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """Return a number with its sign; a real minus."""
    if value is None or not math.isfinite(value):
        return NONE
    sign = "+" if value > 0 else MINUS if value < 0 else "±"
    return sign + number(abs(value), digits)


def count(value: float | None) -> str:
    """Return a whole number in groups of three."""
    return NONE if value is None else f"{value:,.0f}"


def percent(share: float | None, decimals: int = 1) -> str:
    """Return a share as a percentage."""
    return NONE if share is None or not math.isfinite(share) else f"{100 * share:.{decimals}f} %"


def change(ratio: float | None) -> str:
    """Return a ratio as a change: 1.25 as +25 %."""
    if ratio is None or not math.isfinite(ratio):
        return NONE
    part = 100 * (ratio - 1)
    sign = "+" if part >= 0 else MINUS
    return f"{sign}{abs(part):,.{0 if abs(part) >= _TEN else 1}f} %"


def moment(time_us: int | None) -> str:
    """Return a time in UTC, to the minute."""
    return NONE if time_us is None else f"{from_us(time_us):%Y-%m-%d %H:%M}"


def short_moment(time_us: int, step_us: int) -> str:
    """Return what tells buckets of a length apart: the day, or the time of the day as well."""
    return f"{from_us(time_us):%-d %b}" if step_us >= DAY else f"{from_us(time_us):%-d %b %H:%M}"


def length(span_us: int) -> str:
    """Return a length of time in its largest whole unit; shorter ones in seconds."""
    for unit, name in _UNITS:
        if span_us >= unit:
            amount = span_us // unit
            return f"{amount:,} {name}{'s' if amount > 1 else ''}"
    return f"{max(0, span_us) // SECOND} s"
