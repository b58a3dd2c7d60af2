"""What a worker hands back: the answer's bytes, and what the metrics and logs want to know."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from service.questions import Answer
from service.recording import Recording
from service.wire.formats import Encode
from xentcore import Result

Chunk = bytes | memoryview
# Numbers that are written in less time than it takes to find a worker that does it.
FEW: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """An answer that is made, and is sent once its batch is recorded.

    Attributes:
        recording: what is to be recorded.
        digest: of the body, 16 bytes.
        body: what is to wait for labels; ``None`` for nothing.
    """

    recording: Recording
    digest: bytes
    body: bytes | None
    answer: Answer
    write: Encode

    @property
    def is_short(self) -> bool:
        """Whether its bytes are made in no time."""
        return _numbers(self.answer.document) <= FEW

    def encode(self, marks: Sequence[Mapping[str, object]]) -> Sequence[Chunk]:
        """Return the answer's bytes, having told in the part of each result how it is recorded."""
        for part, mark in zip(self.answer.parts, marks, strict=True):
            part["track"] = mark
        return self.write(self.answer.document)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation, done. Its bytes are there, unless they wait for what is ``unrecorded``."""

    chunks: Sequence[Chunk]
    results: Sequence[Result]
    timings_ms: dict[str, float]
    unrecorded: Unrecorded | None = None


def _numbers(value: object) -> int:
    """Return how many entries the tensors and lists of a document have."""
    if value is None or isinstance(value, str | int | float):  # as most are
        return 0
    if isinstance(value, Tensor):
        return value.numel()
    if isinstance(value, Mapping):
        return sum(map(_numbers, value.values()))
    if isinstance(value, Sequence):
        return len(value) + sum(map(_numbers, value[:FEW]))
    return 0


class Clock:
    """Laps in milliseconds."""

    def __init__(self) -> None:
        self._last_s = time.perf_counter()
        self.laps_ms: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Name the time since the last lap."""
        now_s = time.perf_counter()
        self.laps_ms[name] = 1000 * (now_s - self._last_s)
        self._last_s = now_s
