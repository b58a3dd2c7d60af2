"""What the Python client costs: arrays through it, against the same bytes over a plain socket."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from benchmarks import servers
from benchmarks.bodies import SAFETENSORS, as_safetensors, batch
from benchmarks.connection import Connection, post
from benchmarks.harness import Row, Table, interleaved
from xent import AsyncClient, Client

CLASSES: Final = 1000
SMALL: Final = (32, 10)


def run(*, quick: bool) -> tuple[Table, Table]:
    """Measure a small batch and a large one, both with ``per_class``."""
    repetitions = 15 if quick else 60
    return (
        _table(*SMALL, repetitions, limit="what HTTPX and JSON take per request"),
        _table(1024 if quick else 4096, CLASSES, repetitions, limit="copies into the socket"),
    )


def _table(rows: int, classes: int, repetitions: int, *, limit: str) -> Table:
    logits, labels = batch(rows, classes)
    body = as_safetensors(logits, labels, outputs=["per_class"])
    request = post("/loss/sparse", body, SAFETENSORS)
    arrays = (logits.numpy(), labels.numpy())
    with servers.xent() as service, Connection(service.port) as raw:
        url = f"http://127.0.0.1:{service.port}"
        with Client(url) as client, asyncio.Runner() as runner:
            awaited, loop = AsyncClient(url), runner.get_loop()

            def through(tensors: tuple[Any, Any]) -> Callable[[], object]:
                return lambda: client.loss("sparse", *tensors, outputs=["per_class"])

            samples = interleaved(
                {
                    "raw socket": lambda: raw.exchange(request),
                    "Client, NumPy": through(arrays),
                    "Client, PyTorch": through((logits, labels)),
                    # In a loop that is there: a runner prepares for signals, every time.
                    "AsyncClient, NumPy": lambda: loop.run_until_complete(
                        awaited.loss("sparse", *arrays, outputs=["per_class"])
                    ),
                },
                repetitions,
            )
            runner.run(awaited.aclose())
    base, *others = samples
    return Table(
        f"Client, {rows} x {classes} float32, per_class: {len(body) / 1e6:.1f} MB",
        "ms",
        (
            Row(base, samples[base]),
            *(Row(name, samples[name], base, ("<=", 1.5), limit) for name in others),
        ),
        ("Answers of the raw socket are not read, those of the clients are arrays and objects.",),
    )
