"""As much of FlatBuffers as is needed to read where a table's fields are, every offset checked."""

import struct

from service.errors import Malformed


class Table:
    """A table in a buffer that nobody has verified yet.

    Args:
        data: the buffer.
        at: where the table begins.
    """

    def __init__(self, data: memoryview, at: int) -> None:
        self._data = data
        self._at = at
        self._fields = at - self._number("<i", at)
        self._size = self._number("<H", self._fields)

    @classmethod
    def root(cls, data: memoryview) -> "Table":
        """Return the table that a buffer is about.

        Raises:
            Malformed: there is none.
        """
        return cls(data, struct.unpack("<I", data[:4].tobytes().ljust(4, b"\0"))[0])

    def number(self, field: int, form: str) -> int:
        """Return a field that holds a number of this :mod:`struct` format; 0 where it is absent.

        Raises:
            Malformed: it lies outside of the buffer.
        """
        place = self._place(field)
        return 0 if place is None else self._number(form, place)

    def table(self, field: int) -> "Table":
        """Return a field that holds a table.

        Raises:
            Malformed: it is absent, or lies outside of the buffer.
        """
        place = self._place(field)
        if place is None:
            raise _malformed()
        return Table(self._data, place + self._number("<I", place))

    def has(self, field: int) -> bool:
        """Tell whether a field is there."""
        return self._place(field) is not None

    def _place(self, field: int) -> int | None:
        slot = 4 + 2 * field
        if slot + 2 > self._size:
            return None
        offset = self._number("<H", self._fields + slot)
        return self._at + offset if offset else None

    def _number(self, form: str, at: int) -> int:
        if not 0 <= at <= len(self._data) - struct.calcsize(form):
            raise _malformed()
        number: int = struct.unpack_from(form, self._data, at)[0]
        return number


def _malformed() -> Malformed:
    return Malformed("the metadata of an Arrow message is damaged")
