"""Bytes of logits, cut where an entry of their first axis ends."""

from service.wire.buffer import Buffer
from service.wire.payload import Body
from service.wire.piece import Piece


class Entries:
    """Cuts what comes in pieces into whole entries, without copying more than a piece's rest.

    Args:
        each: bytes of an entry.
        kept: bytes of all entries, where they must stay; ``None`` where each is read once.
    """

    def __init__(self, each: int, *, kept: int | None) -> None:
        self._each = each
        self._all = None if kept is None else Buffer(limit=kept, expected=kept)
        self._cut = 0  # bytes of whole entries so far, of those that stay
        self._rest = Buffer(limit=0, expected=0)  # the beginning of the next entry

    def take(self, piece: Piece, begin: int, end: int) -> tuple[Body, int, int]:
        """Read ``begin:end`` of a piece's memory.

        Returns:
            memory, where in it the next whole entries begin, and how many there are.
        """
        data = piece.memory[begin:end]
        if self._all is not None:
            self._all.append(data.data)
            start, entries = self._cut, (self._all.size - self._cut) // self._each
            self._cut += entries * self._each
            return self._all.body(), start, entries
        memory, start = piece.memory, begin - self._rest.size
        if start < 0:  # more than there is room for before the piece
            self._rest.append(data.data)
            memory, start, end = self._rest.body(), 0, self._rest.size
        else:
            memory[start:begin] = self._rest.body()
        entries = (end - start) // self._each
        if entries or memory is piece.memory:
            rest = memory[start + entries * self._each : end]
            self._rest = Buffer(limit=self._each + len(piece.memory), expected=len(rest))
            self._rest.append(rest.data)
        return memory, start, entries
