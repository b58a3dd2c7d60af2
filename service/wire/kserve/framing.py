"""Where a body's JSON ends and its binary data begins: the length header alone says so."""

from collections.abc import Mapping
from typing import Final

from service.errors import Malformed

LENGTH: Final = "inference-header-content-length"
DIGITS: Final = 18


def header_length(headers: Mapping[str, str]) -> int | None:
    """Return the bytes of the JSON that binary data follows; ``None`` where it is all there is.

    Raises:
        Malformed: no number of bytes.
    """
    declared = headers.get(LENGTH)
    if declared is None:
        return None
    digits = declared.isascii() and declared.isdigit() and len(declared) <= DIGITS
    if not digits or not int(declared):
        raise Malformed(f"{LENGTH} is no number of bytes: give that of the JSON header, or none")
    return int(declared)


def header_end(length: int | None, size: int) -> int:
    """Return where the JSON of a body of ``size`` bytes ends.

    Raises:
        Malformed: the header claims more than there is.
    """
    if length is None:
        return size
    if length > size:
        raise Malformed(f"{LENGTH} says {length}, and the body has {size} bytes")
    return length


class Blobs:
    """The binary data behind the JSON, one tensor's after the other.

    Args:
        begin: where the first one begins.
        end: where the last one ends.
    """

    def __init__(self, begin: int, end: int) -> None:
        self._next = begin
        self._end = end

    def take(self, name: str, size: int) -> int:
        """Return where the next ``size`` bytes begin.

        Raises:
            Malformed: there are fewer.
        """
        begin = self._next
        if size > self._end - begin:
            raise Malformed(
                f"{name} has {size} bytes of binary data by its size, and {self._end - begin} are "
                f"left behind the JSON; is {LENGTH} right?"
            )
        self._next += size
        return begin

    def finish(self) -> None:
        """Check that no tensor is missing.

        Raises:
            Malformed: there are more bytes.
        """
        if self._next != self._end:
            raise Malformed(f"{self._end - self._next} bytes follow the last tensor")
