"""Time against elements: from a hundred thousand to a thousand million, in constant memory."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks import compiled, servers
from benchmarks.bodies import SAFETENSORS, batch, endless
from benchmarks.connection import Connection, head
from benchmarks.harness import Curve, Plot, Row, Sample, Table, interleaved
from xentcore import Evaluation, Passes, Spec

CLASSES: Final = 1000
SMALLEST: Final = 100_000
# Whole in memory beside its labels; larger batches are this chunk over and over.
CHUNK: Final = 10_000_000
CORE: Final = (SMALLEST, 1_000_000, CHUNK, 100_000_000, 1_000_000_000)
HTTP: Final = CORE[:-1]
QUICK: Final = CORE[:3]
# A small batch is measured as often as it takes to tell its time.
LEAST_ELEMENTS: Final = 1_000_000
FLAT: Final = 1.3
FIXED: Final = "what a call costs whatever its size"


def core(*, quick: bool) -> Table:
    """Measure loss with per-class sums, chunk by chunk, against the loss alone in PyTorch."""
    sizes = QUICK if quick else CORE
    logits, labels = batch(CHUNK // CLASSES, CLASSES)
    cases: dict[str, Callable[[int], object]] = {
        f"xentcore, {name}": partial(_evaluate, logits, labels, passes)
        for name, passes in compiled.both().items()
    }
    cases["F.cross_entropy, forward"] = partial(_peer, logits, labels)
    samples = {name: _measure(case, sizes, 3 if quick else 5) for name, case in cases.items()}
    first = next(iter(samples))
    threads = torch.get_num_threads()
    title = f"Core, {CLASSES} classes float32, loss + per_class, {threads} threads"
    return _table(title, first, samples, "growth-core")


def http(*, quick: bool) -> Table:
    """Measure the service over safetensors, against a plain socket that takes the same bytes."""
    sizes = QUICK if quick else HTTP
    bodies = {size: endless(size // CLASSES, CLASSES, outputs=["per_class"]) for size in sizes}
    requests = {
        size: (head("/loss/sparse", len(body), SAFETENSORS), *body) for size, body in bodies.items()
    }
    ours: dict[int, Sample] = {}
    floors: dict[int, Sample] = {}
    with servers.xent() as service, Connection(service.port) as answering:
        for size, request in requests.items():
            count = sum(map(len, request))
            with servers.floor(count, min(count, CHUNK)) as floor, Connection(floor.port) as raw:

                def transfer(raw: Connection = raw, request: tuple[bytes, ...] = request) -> None:
                    for part in request:
                        raw.send(part)
                    raw.receive(1)

                found = interleaved(
                    {
                        "floor": _repeated(transfer, size),
                        "ours": _repeated(partial(answering.exchange, request), size),
                    },
                    3 if quick else 5,
                )
            ours[size] = _per_call(found["ours"], size)
            floors[size] = _per_call(found["floor"], size)
    title = f"HTTP, {CLASSES} classes float32 as safetensors, loss + per_class"
    samples = {"POST /loss/sparse": ours, "raw socket": floors}
    return _table(title, "POST /loss/sparse", samples, "growth-http")


def _evaluate(logits: Tensor, labels: Tensor, passes: Passes, size: int) -> object:
    evaluation = Evaluation([Spec("sparse")], classes=CLASSES, outputs={"per_class"}, passes=passes)
    for start in range(0, size, CHUNK):
        rows = min(CHUNK, size - start) // CLASSES
        evaluation.update(logits[:rows], labels[:rows])
    return evaluation.result()


def _peer(logits: Tensor, labels: Tensor, size: int) -> object:
    total = torch.zeros((), dtype=torch.float64)
    for start in range(0, size, CHUNK):
        rows = min(CHUNK, size - start) // CLASSES
        total += cross_entropy(logits[:rows], labels[:rows], reduction="sum")
    return total


def _measure(
    case: Callable[[int], object], sizes: tuple[int, ...], repetitions: int
) -> dict[int, Sample]:
    cases = {str(size): _repeated(partial(case, size), size) for size in sizes}
    found = interleaved(cases, repetitions)
    return {size: _per_call(found[str(size)], size) for size in sizes}


def _times(size: int) -> int:
    return max(1, LEAST_ELEMENTS // size)


def _repeated(case: Callable[[], object], size: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(_times(size)):
            case()

    return run


def _per_call(sample: Sample, size: int) -> Sample:
    return Sample(tuple(value / _times(size) for value in sample.values))


def _table(
    title: str, judged: str, samples: Mapping[str, Mapping[int, Sample]], stem: str
) -> Table:
    """Return time per element by size, each against the size with the least."""
    per_element = {
        size: Sample(tuple(value / size * 1e6 for value in sample.values))
        for size, sample in samples[judged].items()
    }
    best = min(per_element, key=lambda size: per_element[size].median)
    rows = []
    for size, sample in per_element.items():
        compared = None if size == best else (_row(best), ("<=", FLAT))
        base, target = compared or (None, None)
        rows.append(Row(_row(size), sample, base, target, FIXED if size < best else ""))
    curves = tuple(
        Curve(name, tuple((float(size), sample) for size, sample in found.items()))
        for name, found in samples.items()
    )
    return Table(
        f"{title}: time per element of {judged}",
        "ns",
        tuple(rows),
        ("Each size against the one that takes the least time per element.",),
        Plot(stem, title, "elements (logits)", "milliseconds", curves, logarithmic=True),
    )


def _row(size: int) -> str:
    return f"{size:.0e} elements".replace("e+0", "e")
