"""Logits by the gigabyte: time against a plain socket, and the growth of resident memory."""

import json
from typing import Final

from benchmarks import servers
from benchmarks.bodies import SAFETENSORS, batch
from benchmarks.connection import Connection, head
from benchmarks.harness import Row, Table, interleaved
from benchmarks.memory import Growth
from benchmarks.timing import Timing

CLASSES: Final = 1000
BLOCK_ROWS: Final = 1024  # sent again and again, so that the client has its memory in the cache
BUFFER_BYTES: Final = 1 << 21
MB: Final = 1e6


def run(*, quick: bool) -> Table:
    """Measure ``POST /loss/sparse`` with ``per_class`` on safetensors larger than any buffer."""
    rows = 65_536 if quick else 262_144
    parts = _body(rows)
    size = sum(map(len, parts))
    request = [head("/loss/sparse", size, SAFETENSORS), *parts]
    count = sum(map(len, request))
    timing = Timing()
    with (
        servers.xent() as service,
        servers.floor(count, BUFFER_BYTES) as floor,
        Connection(service.port) as http,
        Connection(floor.port) as raw,
    ):
        growth = Growth(service.process_id)

        def transfer() -> None:
            for part in request:
                raw.send(part)
            raw.receive(1)

        def post() -> None:
            for part in request:
                http.send(part)
            timing.add(http.answer())

        samples = interleaved(
            {"raw socket": transfer, "POST /loss/sparse": post}, repetitions=3 if quick else 5
        )
        grown = growth.mb()
    limit = f"{timing.limit()}, on one core beside the event loop's"
    return Table(
        f"{rows} x {CLASSES} float32 as safetensors in pieces, per_class: {size / MB:.0f} MB; "
        f"resident memory grows by {grown:.0f} MB",
        "ms",
        (
            Row("raw socket", samples["raw socket"]),
            Row(
                "POST /loss/sparse",
                samples["POST /loss/sparse"],
                "raw socket",
                ("<=", 3.0),
                limit,
            ),
        ),
        (timing.note(),),
    )


def _body(rows: int) -> list[bytes]:
    """Return a body's parts, most of which are the same object."""
    logits, labels = batch(BLOCK_ROWS, CLASSES)
    repeats = rows // BLOCK_ROWS
    label_bytes = labels.nbytes * repeats
    logit_bytes = logits.nbytes * repeats
    text = json.dumps(
        {
            "__metadata__": {"request": json.dumps({"outputs": ["per_class"]})},
            "labels": {"dtype": "I64", "shape": [rows], "data_offsets": [0, label_bytes]},
            "logits": {
                "dtype": "F32",
                "shape": [rows, CLASSES],
                "data_offsets": [label_bytes, label_bytes + logit_bytes],
            },
        }
    ).encode()
    text += b" " * (-len(text) % 8)
    start = len(text).to_bytes(8, "little") + text + labels.numpy().tobytes() * repeats
    return [start, *[logits.numpy().tobytes()] * repeats]
