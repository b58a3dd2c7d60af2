"""A gibibyte of logits through the service, against a plain socket; and the memory it takes."""

from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.bodies import SAFETENSORS, Endless, endless
from benchmarks.connection import Connection, Refused, head
from benchmarks.harness import Row, Sample, Table, interleaved
from benchmarks.memory import peak_growth
from benchmarks.timing import Timing

CLASSES: Final = 1024
WARM_UP_ROWS: Final = 4096
# What fits a processor's cache: the floor keeps nothing, as the service need not.
FLOOR_BUFFER: Final = 1 << 20
FLOOR: Final = "raw socket"
SERVICE: Final = "POST /loss/sparse"
MB_PER_MIB: Final = (1 << 20) / 1e6
MOST_GROWTH_MIB: Final = 128.0
# Beyond the defaults, which stop short of a whole gibibyte with its labels.
SETTINGS: Final = {"body_bytes": 4 << 30, "elements": 1 << 30}


def run(*, quick: bool) -> tuple[Table, ...]:
    """Measure time, then memory, in services of their own."""
    body = endless((1 << (24 if quick else 30)) // (4 * CLASSES), CLASSES, outputs=["per_class"])
    size = f"{CLASSES} classes float32 as safetensors: {len(body) / 1e6:.0f} MB"
    return _time(body, size, repetitions=3 if quick else 5), _memory(body, size)


def _request(body: Endless) -> tuple[bytes, ...]:
    return (head("/loss/sparse", len(body), SAFETENSORS), *body)


def _time(body: Endless, size: str, *, repetitions: int) -> Table:
    request, timing = _request(body), Timing()
    title = f"Streamed, {size}"
    with (
        servers.xent(**SETTINGS) as service,
        servers.floor(sum(map(len, request)), FLOOR_BUFFER) as floor,
        Connection(floor.port) as raw,
    ):

        def transfer() -> None:
            for part in request:
                raw.send(part)
            raw.receive(1)

        try:
            with Connection(service.port) as http:
                samples = interleaved(
                    {FLOOR: transfer, SERVICE: lambda: timing.add(http.exchange(request))},
                    repetitions,
                )
        except (Refused, OSError) as error:
            (floor_alone,) = interleaved({FLOOR: transfer}, repetitions).values()
            rows = Row(FLOOR, floor_alone), Row(SERVICE, None, FLOOR, ("<=", 1.25), str(error))
            return Table(title, "ms", rows)
    rows = (
        Row(FLOOR, samples[FLOOR]),
        Row(SERVICE, samples[SERVICE], FLOOR, ("<=", 1.25), timing.limit()),
    )
    return Table(title, "ms", rows, (timing.note(),))


def _memory(body: Endless, size: str) -> Table:
    warm_up = _request(endless(WARM_UP_ROWS, CLASSES, outputs=["per_class"]))
    name, target = "growth of peak resident memory", ("<", MOST_GROWTH_MIB)
    try:
        with servers.xent(**SETTINGS) as service, Connection(service.port) as http:
            process = Path("/proc") / str(service.process_id)
            http.exchange(warm_up)
            grown_mb = peak_growth(process, lambda: http.exchange(_request(body)))
        grown = Sample((grown_mb / MB_PER_MIB,))
        share = f"by {grown_mb * 1e6 / len(body):.0%} of the body"
        row = Row(name, grown, None, target, share)
    except (Refused, OSError) as error:
        row = Row(name, None, None, target, str(error))
    return Table(
        f"Memory, {size}",
        "MiB",
        (row,),
        ("VmHWM after the batch less VmRSS before it, in a service that has answered once.",),
    )
