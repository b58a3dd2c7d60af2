"""A batch as JSON lists through the service, against a FastAPI route that validates numbers."""

from benchmarks import servers
from benchmarks.bodies import JSON, as_json, batch
from benchmarks.connection import Connection, post
from benchmarks.harness import Row, Table, interleaved
from benchmarks.timing import Timing

CLASSES = 1000


def run(*, quick: bool) -> Table:
    """Measure ``POST /loss/sparse``."""
    rows = 128 if quick else 1024
    body = as_json(*batch(rows, CLASSES))
    ours, theirs = post("/loss/sparse", body, JSON), post("/loss", body, JSON)
    timing = Timing()
    with (
        servers.xent() as service,
        servers.route() as route,
        Connection(service.port) as http,
        Connection(route.port) as other,
    ):
        samples = interleaved(
            {
                "FastAPI, list[list[float]]": lambda: other.exchange(theirs),
                "POST /loss/sparse": lambda: timing.add(http.exchange(ours)),
            },
            repetitions=5 if quick else 15,
        )
    return Table(
        f"{rows} x {CLASSES} as JSON lists: {len(body) / 1e6:.1f} MB",
        "ms",
        (
            Row("FastAPI, list[list[float]]", samples["FastAPI, list[list[float]]"]),
            Row(
                "POST /loss/sparse",
                samples["POST /loss/sparse"],
                "FastAPI, list[list[float]]",
                ("<=", 0.35),
                timing.limit(),
            ),
        ),
        (timing.note(),),
    )
