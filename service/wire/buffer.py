"""One buffer that is filled from a stream: preallocated where the size is known, bounded always."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.errors import TooLarge
from service.wire.payload import Body

FIRST_BYTES: Final = 1 << 16
ALIGNMENT: Final = 64


class Buffer:
    """Bytes in one piece of memory, never more than ``limit``.

    ``expected`` bytes are reserved at once, and cost nothing until written to: the pages of an
    empty array are committed on first touch. Without it the buffer doubles. The byte at ``aligned``
    lies at a multiple of 64, so that numbers from there on can be read in place.
    """

    def __init__(self, *, limit: int, expected: int | None = None, aligned: int = 0) -> None:
        self.limit = limit
        self.size = 0
        self._aligned = aligned
        self._data = self._room_for(min(FIRST_BYTES, limit) if expected is None else expected)

    def _room_for(self, size: int) -> NDArray[np.uint8]:
        memory = np.empty(size + ALIGNMENT - 1, np.uint8)
        begin = -(memory.ctypes.data + self._aligned) % ALIGNMENT
        return memory[begin : begin + size]

    def append(self, data: bytes | memoryview) -> None:
        """Add ``data`` at the end.

        Raises:
            TooLarge: more than ``limit`` bytes.
        """
        end = self.size + len(data)
        self.reserve(end)
        self._data[self.size : end] = np.frombuffer(data, np.uint8)
        self.size = end

    def reserve(self, size: int) -> None:
        """Make room for ``size`` bytes in all.

        Raises:
            TooLarge: more than ``limit`` bytes.
        """
        if size > self.limit:
            raise TooLarge(f"the body has more than {self.limit} bytes")
        if size > len(self._data):
            grown = self._room_for(min(max(size, 2 * len(self._data)), self.limit))
            grown[: self.size] = self._data[: self.size]
            self._data = grown

    def room(self) -> memoryview:
        """Return the memory behind what was written; tell :meth:`advance` what was put there.

        Raises:
            TooLarge: the buffer is full and must not grow.
        """
        if self.size == len(self._data):
            self.reserve(self.size + 1)
        return self._data.data[self.size :]

    def advance(self, size: int) -> None:
        """Count ``size`` bytes of :meth:`room` as written."""
        self.size += size

    def clear(self) -> None:
        """Forget what was written; the memory is kept for what comes next."""
        self.size = 0

    def body(self, size: int | None = None) -> Body:
        """Return what was written, or the memory of the first ``size`` bytes, without a copy."""
        return Body(self._data[: self.size if size is None else size])
