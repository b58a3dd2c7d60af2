"""What the protocol's statistics tell: requests by what became of them, and where time went."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

LAPS: Final[Mapping[str, str]] = {
    "compute_input": "decode",
    "compute_infer": "compute",
    "compute_output": "encode",
}
NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000


@dataclass(slots=True)
class Duration:
    """How often something took how long."""

    count: int = 0
    ns: int = 0

    def add(self, ns: float) -> None:
        """Count one more."""
        self.count += 1
        self.ns += int(ns)


@dataclass(slots=True)
class Counted:
    """One model's requests."""

    last_ms: int = 0
    durations: dict[str, Duration] = field(
        default_factory=lambda: {
            name: Duration() for name in ("success", "fail", "queue", *LAPS, "cache_hit")
        }
    )


class Statistics:
    """The inference requests of every model since the start. Lives on one event loop."""

    def __init__(self, models: Iterable[str]) -> None:
        self._models = {name: Counted() for name in models}

    def succeeded(self, model: str, duration_s: float, timings_ms: Mapping[str, float]) -> None:
        """Count a request that was answered; what no lap of it names is time in the queue."""
        durations = self._models[model].durations
        self._models[model].last_ms = time.time_ns() // NS_PER_MS
        durations["success"].add(NS_PER_S * duration_s)
        waited_ms = 1000 * duration_s - sum(timings_ms.values())
        durations["queue"].add(NS_PER_MS * max(0.0, waited_ms))
        for name, lap in LAPS.items():
            durations[name].add(NS_PER_MS * timings_ms.get(lap, 0.0))

    def failed(self, model: str, duration_s: float) -> None:
        """Count a request that was answered with an error."""
        self._models[model].durations["fail"].add(NS_PER_S * duration_s)

    def of(self, models: Iterable[str]) -> dict[str, object]:
        """Return the protocol's document about some models."""
        return {"model_stats": [self._of(name) for name in models]}

    def _of(self, model: str) -> dict[str, object]:
        counted = self._models[model]
        answered = counted.durations["success"].count
        return {
            "name": model,
            "version": "1",
            "last_inference": counted.last_ms,
            "inference_count": answered,
            "execution_count": answered,
            "inference_stats": {
                name: {"count": each.count, "ns": each.ns}
                for name, each in counted.durations.items()
            },
            "batch_stats": [],
        }
