"""Peak resident memory of the service while it answers, relative to the body."""

from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.bodies import JSON, SAFETENSORS, as_json, as_safetensors, batch
from benchmarks.connection import Connection, post
from benchmarks.harness import Row, Sample, Table

CLASSES: Final = 1000
REQUESTS: Final = 3
WARM_UP_ROWS: Final = (8, 256)
RESET_PEAK: Final = "5"  # proc(5): "to reset the peak resident set size"
LIMIT: Final = "the body is held once; blocks in work and the answer come on top"


def run(*, quick: bool) -> Table:
    """Measure both formats, each on services of their own."""
    rows, repetitions = (1024, 1) if quick else (4096, 3)
    found = []
    for media_type, count in ((SAFETENSORS, rows), (JSON, rows // 4)):
        request = _request(media_type, count)
        body = f"{media_type}, {count} rows"
        found.append(Row(body, Sample((len(request) / 1e6,))))
        target = ("<", 1.3) if media_type == SAFETENSORS else None
        for few in WARM_UP_ROWS:
            warm_up = _request(media_type, few)
            growths = tuple(_growth(warm_up, request) for _ in range(repetitions))
            found.append(
                Row(f"peak growth, first batch {few} rows", Sample(growths), body, target, LIMIT)
            )
    return Table(
        f"Growth of peak resident memory against the body, {CLASSES} classes",
        "MB",
        tuple(found),
        (
            f"VmHWM after {REQUESTS} requests less VmRSS before them, in a fresh service whose "
            "first batch has as many rows as named.",
        ),
    )


def _request(media_type: str, rows: int) -> bytes:
    logits, labels = batch(rows, CLASSES)
    if media_type == JSON:
        return post("/loss/sparse", as_json(logits, labels), JSON)
    body = as_safetensors(logits, labels, outputs=["per_class"])
    return post("/loss/sparse", body, SAFETENSORS)


class Growth:
    """Growth of a process's peak resident memory from now on."""

    def __init__(self, process_id: int) -> None:
        self._process = Path("/proc") / str(process_id)
        (self._process / "clear_refs").write_text(RESET_PEAK)
        self._before_mb = _status_mb(self._process, "VmRSS")

    def mb(self) -> float:
        """Return megabytes."""
        return _status_mb(self._process, "VmHWM") - self._before_mb


def _growth(warm_up: bytes, request: bytes) -> float:
    """Return the growth of a fresh service in MB."""
    with servers.xent() as service, Connection(service.port) as http:
        http.exchange(warm_up)
        growth = Growth(service.process_id)
        for _ in range(REQUESTS):
            http.exchange(request)
        return growth.mb()


def _status_mb(process: Path, field: str) -> float:
    lines = (process / "status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / 1e6
