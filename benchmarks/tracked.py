"""Tracked evaluations: what it costs that an answer is remembered before it leaves."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Final

from benchmarks import servers
from benchmarks.bodies import JSON, SAFETENSORS, as_json, as_safetensors, batch
from benchmarks.connection import Connection, post
from benchmarks.harness import Row, Sample, Table, interleaved
from benchmarks.timing import Timing

SHAPES: Final = ((32, 10, 160), (1024, 100, 40))
"""Rows, classes, requests of a burst: a short one, for silent connections are closed after 5 s."""
QUICK: Final = 5  # times fewer
CONNECTIONS: Final = 8
LEAST: Final = 0.8
OUTPUTS: Final = ["per_class"]
PLACE: Final = "batch-000000000"
"""Where a request says which batch it is; every one is another, and as long."""


@dataclass(frozen=True, slots=True)
class Case:
    """One batch in one format.

    Attributes:
        name: of its rows.
        media_type: of its bodies.
        plain: the body that is not tracked.
        tracked: the body that is, which holds :data:`PLACE` once.
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
    with servers.xent() as plain, servers.xent() as tracking, ExitStack() as stack:
        ours, others = (
            [stack.enter_context(Connection(server.port)) for _ in range(CONNECTIONS)]
            for server in (tracking, plain)
        )
        for case in _cases(quick=quick):
            timing = Timing()
            samples = interleaved(
                {
                    "untracked": _burst(others, _same(case), case.requests, Timing()),
                    "tracked": _burst(ours, _each_another(case, names), case.requests, timing),
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
    for rows, classes, requests in SHAPES:
        tensors = batch(rows, classes)
        burst = requests // QUICK if quick else requests
        track = _track(rows, classes)
        lists = as_json(*tensors)
        bodies = {
            JSON: (_with(lists, outputs=OUTPUTS), _with(lists, outputs=OUTPUTS, track=track)),
            SAFETENSORS: (
                as_safetensors(*tensors, outputs=OUTPUTS),
                as_safetensors(*tensors, outputs=OUTPUTS, track=track),
            ),
        }
        for media_type, (without, with_track) in bodies.items():
            name = f"{rows} x {classes} {media_type.rpartition('x-')[2].rpartition('/')[2]}"
            yield Case(name, media_type, without, with_track, burst)


def _track(rows: int, classes: int) -> dict[str, object]:
    return {
        "project": "benchmark",
        "model": "model",
        "model_version": "1",
        "batch_id": PLACE,
        "event_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
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


def _each_another(case: Case, names: Iterator[int]) -> Iterator[tuple[bytes]]:
    """Yield requests that differ by the name of their batch alone."""
    (request,) = post("/loss/sparse", case.tracked, case.media_type)
    before, after = request.split(PLACE.encode())
    width = len(PLACE) - len("batch-")
    for number in names:
        yield (b"%sbatch-%0*d%s" % (before, width, number, after),)


def _burst(
    connections: Sequence[Connection],
    requests: Iterator[tuple[bytes]],
    count: int,
    timing: Timing,
) -> Callable[[], None]:
    """Return what sends ``count`` requests, one on every connection at a time."""

    def go() -> None:
        for _ in range(count // len(connections)):
            for connection in connections:
                connection.send(*next(requests))
            for connection in connections:
                timing.add(connection.answer())

    return go


def _rate(sample: Sample, count: int) -> Sample:
    return Sample(tuple(1000 * count / each for each in sample.values))
