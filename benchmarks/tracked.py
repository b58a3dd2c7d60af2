"""Tracked evaluations: what it costs that an answer is remembered before it leaves."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Final

from torch import Tensor

from benchmarks import servers
from benchmarks.bodies import JSON, SAFETENSORS, as_json, as_safetensors, batch
from benchmarks.connection import Connection, post
from benchmarks.harness import Row, Sample, Table, interleaved
from benchmarks.timing import Timing

SHAPES: Final = (
    (32, 10, 160, (JSON, SAFETENSORS)),
    (1024, 100, 40, (JSON, SAFETENSORS)),
    (1024, 1000, 16, (JSON,)),
    (4096, 1000, 16, (SAFETENSORS,)),
)
"""Rows, classes, requests of a burst, in which formats."""
QUICK: Final = 5  # times fewer
CONNECTIONS: Final = 8
TOGETHER: Final = 1 << 16
"""Bytes of a request that are copied for every one; the rest are the same bytes again."""
LEAST: Final = 0.8
OUTPUTS: Final = ["per_class"]
PLACE: Final = "batch-000000000"
"""Where a request says which batch it is; every one is another, and as long."""
TIME: Final = "2000-01-01T00:00:00Z"
"""Where it says when its rows were seen: when it is sent."""


@dataclass(frozen=True, slots=True)
class Case:
    """One batch in one format.

    Attributes:
        name: of its rows.
        media_type: of its bodies.
        plain: the body that is not tracked.
        tracked: the body that is, which holds :data:`PLACE` once, and behind it :data:`TIME`.
        requests: of one burst, on all connections together.
    """

    name: str
    media_type: str
    plain: bytes
    tracked: bytes
    requests: int


def run(*, quick: bool) -> Table:
    """Measure evaluations per second of both, in services of their own."""
    rows: list[Row] = []
    names = count()
    with servers.xent() as plain, servers.xent() as tracking:
        for case in _cases(quick=quick):
            timing = Timing()
            samples = interleaved(
                {
                    "untracked": _burst(plain.port, _same(case), case.requests, Timing()),
                    "tracked": _burst(
                        tracking.port, _each_another(case, names), case.requests, timing
                    ),
                },
                repetitions=3 if quick else 11,
            )
            base = f"{case.name}, untracked"
            rows.append(Row(base, _rate(samples["untracked"], case.requests)))
            found = _rate(samples["tracked"], case.requests)
            name = f"{case.name}, tracked"
            rows.append(Row(name, found, base, (">=", LEAST), timing.limit()))
    return Table(
        f"Remembered before it is answered, {CONNECTIONS} connections",
        "evaluations/s",
        tuple(rows),
        (
            "More is better. Both ask for per-class sums; the tracked ones are in SQLite, synced "
            "to the disk, when their answer leaves.",
        ),
    )


def _cases(*, quick: bool) -> Iterator[Case]:
    for rows, classes, requests, media_types in SHAPES:
        tensors = batch(rows, classes)
        burst = requests // QUICK if quick else requests
        track = _track(rows, classes)
        for media_type in media_types:
            bodies = _bodies(*tensors, media_type, track)
            name = f"{rows} x {classes} {media_type.rpartition('x-')[2].rpartition('/')[2]}"
            yield Case(name, media_type, *bodies, max(burst, CONNECTIONS))


def _bodies(
    logits: Tensor, labels: Tensor, media_type: str, track: dict[str, object]
) -> tuple[bytes, bytes]:
    """Return a batch that is not tracked, and one that is."""
    if media_type == SAFETENSORS:
        return (
            as_safetensors(logits, labels, outputs=OUTPUTS),
            as_safetensors(logits, labels, outputs=OUTPUTS, track=track),
        )
    lists = as_json(logits, labels)
    return _with(lists, outputs=OUTPUTS), _with(lists, outputs=OUTPUTS, track=track)


def _track(rows: int, classes: int) -> dict[str, object]:
    return {
        "project": "benchmark",
        "model": "model",
        "model_version": "1",
        "batch_id": PLACE,
        "event_time": TIME,
        "label_schema": {
            "name": f"of-{classes}",
            "classes": [f"class {index}" for index in range(classes)],
        },
        "sample_ids": list(range(rows)),
    }


def _with(lists: bytes, **document: object) -> bytes:
    return lists[:-1] + b", " + json.dumps(document).encode()[1:]


def _same(case: Case) -> Iterator[tuple[bytes]]:
    request = post("/loss/sparse", case.plain, case.media_type)
    while True:
        yield request


def _each_another(case: Case, names: Iterator[int]) -> Iterator[tuple[bytes, ...]]:
    """Yield requests that differ by the name and the time of their batch alone."""
    (request,) = post("/loss/sparse", case.tracked, case.media_type)
    before, after = request.split(PLACE.encode())
    between, after = after.split(TIME.encode())
    after, rest = after[:TOGETHER], after[TOGETHER:]
    width = len(PLACE) - len("batch-")
    for number in names:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()).encode()
        first = b"%sbatch-%0*d%s%s%s" % (before, width, number, between, now, after)
        yield (first, rest) if rest else (first,)


def _burst(
    port: int,
    requests: Iterator[tuple[bytes, ...]],
    count: int,
    timing: Timing,
) -> Callable[[], None]:
    """Return what sends ``count`` requests, one on every connection at a time."""

    def go() -> None:
        # Of its own: those that are silent for 5 s, while the others have their turn, are closed.
        with ExitStack() as stack:
            connections = [stack.enter_context(Connection(port)) for _ in range(CONNECTIONS)]
            for _ in range(count // CONNECTIONS):
                for connection in connections:
                    for part in next(requests):
                        connection.send(part)
                for connection in connections:
                    timing.add(connection.answer())

    return go


def _rate(sample: Sample, count: int) -> Sample:
    return Sample(tuple(1000 * count / each for each in sample.values))
