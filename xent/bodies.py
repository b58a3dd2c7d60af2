"""Request bodies: what they are, how long, and whether they can be sent a second time."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from xent.safetensors import Buffer

PART_BYTES: Final = 1 << 20
Progress = Callable[[int, int | None], None]
"""Told how many bytes were sent, and of how many where that is known."""


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body.

    Attributes:
        media_type: its type.
        parts: starts a pass over its bytes; asynchronous for chunks that come so.
        length: bytes, where they are known beforehand.
        once: whether there is one pass only, so that a refusal cannot be tried again.
    """

    media_type: str
    parts: Callable[[], Iterator[Buffer] | AsyncIterator[Buffer]]
    length: int | None = None
    once: bool = False

    @classmethod
    def of(cls, media_type: str, parts: Sequence[Buffer]) -> "Body":
        """Return a body that lies in memory."""
        length = sum(len(part) for part in parts)
        return cls(media_type, lambda: _sliced(parts), length)

    def reporting(self, progress: Progress) -> "Body":
        """Return a body that tells how far it was sent."""

        def parts() -> Iterator[Buffer] | AsyncIterator[Buffer]:
            opened = self.parts()
            if isinstance(opened, AsyncIterator):
                return _reported_async(opened, progress, self.length)
            return _reported(opened, progress, self.length)

        return Body(self.media_type, parts, self.length, self.once)


def _sliced(parts: Sequence[Buffer]) -> Iterator[Buffer]:
    """Yield the parts, small ones together and large ones in slices, which are not copies."""
    held: list[Buffer] = []
    for part in parts:
        if len(part) <= PART_BYTES:
            held.append(part)
            continue
        view = memoryview(part)
        # The head goes with the first slice: a packet of its own would wait for its answer.
        yield b"".join([*held, view[:PART_BYTES]])
        held = []
        for begin in range(PART_BYTES, len(view), PART_BYTES):
            yield view[begin : begin + PART_BYTES]
    if held:
        yield b"".join(held)


def _reported(parts: Iterator[Buffer], progress: Progress, length: int | None) -> Iterator[Buffer]:
    sent = 0
    for part in parts:
        yield part
        sent += len(part)
        progress(sent, length)


async def _reported_async(
    parts: AsyncIterator[Buffer], progress: Progress, length: int | None
) -> AsyncIterator[Buffer]:
    sent = 0
    async for part in parts:
        yield part
        sent += len(part)
        progress(sent, length)
