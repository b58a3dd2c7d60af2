"""A piece of a body: memory that is filled, read and filled again, and so stays in the cache."""

import numpy as np

from service.wire.payload import Body


class Piece:
    """Room for ``size`` consecutive bytes of a body, with as much room again before them.

    What a reader did not finish of the piece before is put there, so that it is in one piece of
    memory with what follows. The room costs nothing until it is used.
    """

    def __init__(self, size: int) -> None:
        self.memory = Body(np.empty(2 * size, np.uint8))
        self.begin = size
        self.end = size

    @classmethod
    def of(cls, body: Body) -> "Piece":
        """Return a whole body as a piece; there is no room before it."""
        piece = cls(0)
        piece.memory, piece.begin, piece.end = body, 0, len(body)
        return piece

    @property
    def full(self) -> bool:
        """Whether no byte fits any more."""
        return self.end == len(self.memory)

    def fill(self, data: memoryview) -> int:
        """Take as much of ``data`` as fits; return how much that was."""
        taken = min(len(data), len(self.memory) - self.end)
        self.memory[self.end : self.end + taken] = np.frombuffer(data[:taken], np.uint8)
        self.end += taken
        return taken

    def room(self) -> memoryview:
        """Return the memory that is not filled; tell :meth:`advance` what was put there."""
        return self.memory[self.end :].data

    def advance(self, size: int) -> None:
        """Count ``size`` bytes of :meth:`room` as filled."""
        self.end += size

    def empty(self) -> None:
        """Forget what was filled in."""
        self.end = self.begin
