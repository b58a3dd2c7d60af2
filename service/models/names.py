"""What models and their versions are called, and which version is the newest."""

import re
from typing import Final

from service.errors import invalid

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DIGITS: Final = re.compile(r"(\d+)")


def check_name(name: str, what: str) -> str:
    """Return a name that is one.

    Raises:
        InvalidDocument: it is none.
    """
    if not NAME.fullmatch(name):
        raise invalid(
            "", f"the {what}'s name has 1 to 64 of A-Z a-z 0-9 _ . - and begins with none of _ . -"
        )
    return name


def order(version: str) -> tuple[object, ...]:
    """Return what versions are sorted by: numbers in them as numbers, so that 10 follows 9."""
    parts = _DIGITS.split(version)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
