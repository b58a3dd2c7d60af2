"""What a worker hands back: the answer's bytes, and what the metrics and logs want to know."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from xentcore import Result


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation, done."""

    chunks: Sequence[bytes | memoryview]
    results: Sequence[Result]
    timings_ms: dict[str, float]


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
