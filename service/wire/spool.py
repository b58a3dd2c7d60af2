"""Bytes that are kept until all are there: in memory up to a bound, in a file without a name above.

The file has no name from the beginning (``O_TMPFILE``, or unlinked at once), so that it is gone
with the process, whatever ends it.
"""

import mmap
import tempfile
from pathlib import Path
from typing import IO

import numpy as np

from service.errors import Unavailable
from service.wire.buffer import Buffer
from service.wire.payload import Body


class Spool:
    """``size`` bytes that come in order.

    Args:
        size: how many there will be.
        memory: most bytes that are held in memory.
        folder: where the file is made, if need be.

    Raises:
        Unavailable: no file can be made there.
    """

    def __init__(self, size: int, *, memory: int, folder: Path) -> None:
        self._size = size
        self._buffer: Buffer | None = None
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None
        if size <= memory:
            self._buffer = Buffer(limit=size, expected=size)
            return
        try:
            # Closed by close(): it lives as long as the request.
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise _no_room(error) from None

    def append(self, data: Body) -> None:
        """Add bytes at the end.

        Raises:
            Unavailable: the file system takes no more.
        """
        if self._buffer is not None:
            self._buffer.append(data.data)
            return
        rest = data.data
        try:
            while rest:
                rest = rest[self._file.write(rest) :]  # type: ignore[union-attr]  # one of the two
        except OSError as error:
            raise _no_room(error) from None

    def body(self) -> Body:
        """Return all bytes in one piece; those of a file are read when they are touched."""
        if self._buffer is not None:
            return self._buffer.body()
        self._map = mmap.mmap(self._file.fileno(), self._size)  # type: ignore[union-attr]
        return Body(np.frombuffer(self._map, np.uint8))

    def forget(self) -> None:
        """Give back the memory behind what was read of the file; who asks again reads it again.

        Without this the pages that were read would count as the process's until it is done.
        """
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Give the file back; its mapping goes with the last tensor that lies in it."""
        if self._file is not None:
            self._file.close()
        self._buffer = self._map = None


def _no_room(error: OSError) -> Unavailable:
    return Unavailable(
        f"the batch cannot be kept in a file: {error.strerror}; try again later, or send "
        "the logits last"
    )
