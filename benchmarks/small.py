"""Small batches: what a request costs before any number is looked at."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from benchmarks import servers
from benchmarks.bodies import JSON, as_json, batch
from benchmarks.connection import Connection, post
from benchmarks.harness import Row, Sample, Table, interleaved
from benchmarks.timing import Timing

ROWS: Final = 32
CLASSES: Final = 10
CONNECTIONS: Final = 8


def run(*, quick: bool) -> Table:
    """Measure requests per second, on one connection and on several."""
    body = as_json(*batch(ROWS, CLASSES))
    ours, theirs = post("/loss/sparse", body, JSON), post("/loss", body, JSON)
    timing = Timing()
    burst = 40 if quick else 200
    with servers.xent() as service, servers.route() as route, ExitStack() as stack:
        mine = [stack.enter_context(Connection(service.port)) for _ in range(CONNECTIONS)]
        others = [stack.enter_context(Connection(route.port)) for _ in range(CONNECTIONS)]
        samples = interleaved(
            {
                "FastAPI, 1 connection": _burst(others[:1], theirs, burst, Timing()),
                "POST /loss/sparse, 1 connection": _burst(mine[:1], ours, burst, timing),
                f"FastAPI, {CONNECTIONS} connections": _burst(others, theirs, burst, Timing()),
                f"POST /loss/sparse, {CONNECTIONS} connections": _burst(
                    mine, ours, burst, Timing()
                ),
            },
            repetitions=5 if quick else 11,
        )
    rows = []
    for many in ("1 connection", f"{CONNECTIONS} connections"):
        base, name = f"FastAPI, {many}", f"POST /loss/sparse, {many}"
        rows.append(Row(base, _rate(samples[base], burst)))
        rows.append(Row(name, _rate(samples[name], burst), base, (">=", 0.9), timing.limit()))
    return Table(
        f"{ROWS} x {CLASSES} as JSON lists",
        "requests/s",
        tuple(rows),
        (f"More is better. {timing.note()}",),
    )


def _burst(
    connections: Sequence[Connection], request: tuple[bytes], count: int, timing: Timing
) -> Callable[[], None]:
    """Return what sends ``count`` requests, one on every connection at a time."""

    def go() -> None:
        for _ in range(count // len(connections)):
            for connection in connections:
                connection.send(*request)
            for connection in connections:
                timing.add(connection.answer())

    return go


def _rate(sample: Sample, count: int) -> Sample:
    return Sample(tuple(1000 * count / each for each in sample.values))
