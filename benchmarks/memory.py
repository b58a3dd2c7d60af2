"""Peak resident memory of the service while it answers, relative to the body."""

from collections.abc import Callable, Iterable
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
        found.append(Row(body, Sample((len(request[0]) / 1e6,))))
        target = ("<", 1.3) if media_type == SAFETENSORS else None
        for few in WARM_UP_ROWS[:1] if quick else WARM_UP_ROWS:
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


def _request(media_type: str, rows: int) -> tuple[bytes]:
    logits, labels = batch(rows, CLASSES)
    if media_type == JSON:
        return post("/loss/sparse", as_json(logits, labels), JSON)
    body = as_safetensors(logits, labels, outputs=["per_class"])
    return post("/loss/sparse", body, SAFETENSORS)


def _growth(warm_up: Iterable[bytes], request: Iterable[bytes]) -> float:
    """Return the growth of a fresh service in MB."""
    with servers.xent() as service, Connection(service.port) as http:
        http.exchange(warm_up)
        process = Path("/proc") / str(service.process_id)

        def answer_some() -> None:
            for _ in range(REQUESTS):
                http.exchange(request)

        return peak_growth(process, answer_some)


def peak_growth(process: Path, work: Callable[[], object]) -> float:
    """Return by how many MB a process's peak memory exceeds what it held before some work.

    Args:
        process: its folder in /proc.
        work: what keeps it busy.
    """
    (process / "clear_refs").write_text(RESET_PEAK)
    before = _status_mb(process, "VmRSS")
    work()
    return _status_mb(process, "VmHWM") - before


def _status_mb(process: Path, field: str) -> float:
    lines = (process / "status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / 1e6
