"""Regions of shared memory that clients on the same host have registered.

A region is a POSIX object, a file in ``/dev/shm``, opened read-only. Its owner may shrink it at any
time, and whoever then reads where its pages were mapped is killed by SIGBUS. So there are two ways:

``copied``: what is asked for is read with ``pread``, rows of logits just before they are evaluated,
while they are in the cache. Nothing that a client does can do harm.

``mapped``: logits are read in place. Before every use the size is checked; a client that shrinks
its region while it is read ends the service. Labels and weights are copied: they must not change
between being checked and being used.
"""

import mmap
import os
import re
import stat
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from service.errors import Malformed, NotOffered
from service.wire.payload import Body, all_there

Mode = Literal["off", "copied", "mapped"]

FOLDER: Final = "/dev/shm"  # noqa: S108  (where POSIX shared memory is)
NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,255}")
MOST: Final = 1024
PIECE_BYTES: Final = 1 << 21
FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
OFF: Final = "shared memory is off: start the service with XENT_SHARED_MEMORY=copied or mapped"


class Opened:
    """A file, open until nobody uses it."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, FLAGS)
        weakref.finalize(self, os.close, self.descriptor)

    @property
    def status(self) -> os.stat_result:
        """What it is and how large, now."""
        return os.fstat(self.descriptor)


@dataclass(frozen=True, slots=True)
class Region:
    """Part of a shared memory object.

    Attributes:
        name: what requests call it.
        key: the object's name.
        offset: where the region begins in it.
        byte_size: how large it is.
        file: the object.
        mapping: it, mapped from ``mapped_from`` on; ``None`` where it is copied.
        spare: memory that a copy has given back: the first touch of fresh memory costs more than
            the copy.
    """

    name: str
    key: str
    offset: int
    byte_size: int
    file: Opened
    mapping: mmap.mmap | None
    mapped_from: int
    spare: list[Body] = field(default_factory=list)

    def check(self, offset: int, size: int) -> None:
        """Check that bytes of the region are there.

        Raises:
            Malformed: they are not in it, or not any more.
        """
        if offset + size > self.byte_size:
            raise Malformed(
                f"region {self.name} has {self.byte_size} bytes, and {size} are wanted at {offset}"
            )
        if self.file.status.st_size < self.offset + offset + size:
            raise self._shrunk()

    def copy(self, offset: int, size: int) -> Body:
        """Return a copy of bytes of the region.

        Raises:
            Malformed: they are not there.
        """
        self.check(offset, size)  # before anything is allocated
        memory = Body(np.empty(size, np.uint8))
        self._copy_into(memory, offset)(size)
        return memory

    def read(self, offset: int, size: int) -> tuple[Body, Callable[[int], None]]:
        """Return memory for bytes of the region, and what makes sure that the first ones are in it.

        Raises:
            Malformed: they are not there.
        """
        self.check(offset, size)
        if self.mapping is None:
            memory = self._lent(size)
            return memory, self._copy_into(memory, offset)
        begin = self.offset - self.mapped_from + offset
        return Body(np.frombuffer(self.mapping, np.uint8, size, begin)), all_there

    def _lent(self, size: int) -> Body:
        """Return memory that is given back when nobody uses it any more."""
        with suppress(IndexError):
            memory = self.spare.pop()
            if len(memory) >= size:
                return self._lend(memory, size)
        return self._lend(Body(np.empty(size, np.uint8)), size)

    def _lend(self, memory: Body, size: int) -> Body:
        lent = Body(memory[:size])
        weakref.finalize(lent, _keep, self.spare, memory).atexit = False
        return lent

    def _copy_into(self, memory: Body, offset: int) -> Callable[[int], None]:
        """Return what copies bytes of the region, and waits for the first ones."""
        size, copied = len(memory), 0

        def await_bytes(end: int) -> None:
            nonlocal copied
            while copied < min(end, size):
                room = memory[copied : min(copied + PIECE_BYTES, size)]
                read = os.preadv(self.file.descriptor, [room.data], self.offset + offset + copied)
                if not read:
                    raise self._shrunk()
                copied += read

        return await_bytes

    def _shrunk(self) -> Malformed:
        return Malformed(f"the shared memory of region {self.name} is smaller than it was")

    def status(self) -> dict[str, object]:
        """Return what the protocol says of a region."""
        return {
            "name": self.name,
            "key": self.key,
            "offset": self.offset,
            "byte_size": self.byte_size,
        }


class Regions:
    """The registered regions, by name."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._regions: dict[str, Region] = {}

    @property
    def enabled(self) -> bool:
        """Whether there can be any."""
        return self._mode != "off"

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Open a region.

        Raises:
            NotOffered: shared memory is off.
            Malformed: a name or a key that is none, a name that is taken, bytes that are not there.
        """
        self._check(name)
        if name in self._regions:
            raise Malformed(f"region {name} is registered: unregister it first")
        if len(self._regions) >= MOST:
            raise Malformed(f"{MOST} regions are registered: unregister some first")
        self._regions[name] = _opened(name, key, offset, byte_size, self._mode)

    def unregister(self, name: str | None) -> None:
        """Forget a region, or all. What reads them goes on.

        Raises:
            NotOffered: shared memory is off.
            Malformed: the name is none.
        """
        self._check(name)
        for each in [name] if name is not None else list(self._regions):
            self._regions.pop(each, None)

    def status(self, name: str | None) -> list[dict[str, object]]:
        """Return what the protocol says of a region, or of all.

        Raises:
            NotOffered: shared memory is off, or there is no such region.
            Malformed: the name is none.
        """
        self._check(name)
        found = [self.find(name)] if name is not None else self._regions.values()
        return [region.status() for region in found]

    def find(self, name: str) -> Region:
        """Return a region.

        Raises:
            NotOffered: shared memory is off, or there is no such region.
            Malformed: the name is none.
        """
        self._check(name)
        if name not in self._regions:
            raise NotOffered(f"no shared memory region {name} is registered")
        return self._regions[name]

    def _check(self, name: str | None) -> None:
        if not self.enabled:
            raise NotOffered(OFF)
        if name is not None and not NAME.fullmatch(name):
            raise Malformed(f"a region's name matches {NAME.pattern}")


def _keep(spare: list[Body], memory: Body) -> None:
    """Keep one piece of memory for the next copy."""
    spare[:] = [memory]


def _opened(name: str, key: str, offset: int, byte_size: int, mode: Mode) -> Region:
    stem = key.removeprefix("/")
    if not NAME.fullmatch(stem) or stem in (".", ".."):
        raise Malformed(f"a key is the name of a shared memory object: /{NAME.pattern}")
    try:
        file = Opened(f"{FOLDER}/{stem}")
    except OSError:
        raise Malformed("no shared memory of this key can be read") from None
    found = file.status
    if not stat.S_ISREG(found.st_mode):
        raise Malformed("no shared memory of this key can be read")
    if not byte_size or offset + byte_size > found.st_size:
        raise Malformed(
            f"{byte_size} bytes at {offset} are no part of the {found.st_size} bytes of this key"
        )
    page = offset - offset % mmap.ALLOCATIONGRANULARITY
    mapping = _mapped(file, page, offset + byte_size - page) if mode == "mapped" else None
    return Region(name, key, offset, byte_size, file, mapping, page)


def _mapped(file: Opened, page: int, size: int) -> mmap.mmap:
    # Private and writable, because tensors are; never written to, and then it would be a copy.
    access = mmap.PROT_READ | mmap.PROT_WRITE
    try:
        return mmap.mmap(file.descriptor, size, mmap.MAP_PRIVATE, access, offset=page)
    except (OSError, OverflowError, ValueError):
        raise Malformed(f"{size} bytes of this key cannot be mapped") from None
