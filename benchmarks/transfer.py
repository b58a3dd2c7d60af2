"""A batch as safetensors through the service, against the same bytes through a plain socket."""

from benchmarks import servers
from benchmarks.bodies import SAFETENSORS, as_safetensors, batch
from benchmarks.connection import Connection, post
from benchmarks.harness import Row, Table, interleaved
from benchmarks.timing import Timing

CLASSES = 1000


def run(*, quick: bool) -> Table:
    """Measure ``POST /loss/sparse`` with ``per_class``."""
    rows = 1024 if quick else 4096
    body = as_safetensors(*batch(rows, CLASSES), outputs=["per_class"])
    request = post("/loss/sparse", body, SAFETENSORS)
    (whole,) = request
    timing = Timing()
    with (
        servers.xent() as service,
        servers.floor(len(whole)) as floor,
        Connection(service.port) as http,
        Connection(floor.port) as raw,
    ):

        def transfer() -> None:
            raw.send(whole)
            raw.receive(1)

        samples = interleaved(
            {
                "raw socket": transfer,
                "POST /loss/sparse": lambda: timing.add(http.exchange(request)),
            },
            repetitions=10 if quick else 40,
        )
    return Table(
        f"{rows} x {CLASSES} float32 as safetensors, per_class: {len(whole) / 1e6:.1f} MB",
        "ms",
        (
            Row("raw socket", samples["raw socket"]),
            Row(
                "POST /loss/sparse",
                samples["POST /loss/sparse"],
                "raw socket",
                ("<=", 1.5),
                timing.limit(),
            ),
        ),
        (timing.note(),),
    )
