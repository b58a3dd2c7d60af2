"""Where the service says that its time went."""

import re
from typing import Final

from benchmarks.harness import Sample

HEADER: Final = re.compile(rb"\r\nserver-timing: ([^\r]*)", re.IGNORECASE)
LAP: Final = re.compile(r"(\w+);dur=([\d.]+)")


class Timing:
    """The laps of ``Server-Timing``, answer after answer."""

    def __init__(self) -> None:
        self._laps: dict[str, list[float]] = {}

    def add(self, head: bytes) -> None:
        """Take the laps of one answer's head."""
        found = HEADER.search(head)
        for name, duration in LAP.findall(found[1].decode()) if found else ():
            self._laps.setdefault(name, []).append(float(duration))

    def medians(self) -> dict[str, float]:
        """Return milliseconds by lap."""
        return {name: Sample(tuple(values)).median for name, values in self._laps.items()}

    def note(self) -> str:
        """Return a sentence with all laps."""
        laps = ", ".join(f"{name} {median:.2f}" for name, median in self.medians().items())
        return f"Server-Timing, medians in ms: {laps}."

    def limit(self) -> str:
        """Return a sentence that names the longest lap."""
        medians = self.medians()
        if not medians:
            return "no Server-Timing was sent"
        longest = max(medians, key=medians.__getitem__)
        return f"{longest} takes longest ({medians[longest]:.1f} ms)"
