"""KServe V2 by its official client: against safetensors, and through shared memory."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Final, Literal

import httpx2
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import shared_memory as shm

from benchmarks import servers
from benchmarks.bodies import SAFETENSORS, batch
from benchmarks.environments import NotInstalled
from benchmarks.harness import Row, Table, interleaved
from benchmarks.servers import Server

CLASSES: Final = 1000
WIDE: Final = 1024
THREADS: Final = 2
TIMEOUT_S: Final = 120.0
REGION: Final = "xent-benchmark"
DATATYPES: Final = {torch.float32: "FP32", torch.int64: "INT64"}
COLUMN: Final = "per_class_loss_mean"
BODY: Final = "httpx2, safetensors"
CLIENT: Final = "tritonclient, binary data"
TRITON: Final = "Triton, by tritonclient, binary data"
IN_PROCESS: Final = "F.cross_entropy, in the client"


def run(*, quick: bool) -> tuple[Table, ...]:
    """Measure a batch over loopback, then a large one in shared memory."""
    rows = 1024 if quick else 4096
    return (
        _over_loopback(*batch(rows, CLASSES), repetitions=10 if quick else 40, alone=quick),
        _on_one_host(
            *batch((1 << (22 if quick else 28)) // (4 * WIDE), WIDE), repetitions=3 if quick else 9
        ),
    )


def _over_loopback(logits: Tensor, labels: Tensor, *, repetitions: int, alone: bool) -> Table:
    """Everything is measured that a caller waits for: writing the body, and reading the answer.

    Args:
        logits: of the batch.
        labels: of the batch.
        repetitions: of the measurement.
        alone: without Triton beside it.
    """
    metadata = {"request": json.dumps({"outputs": ["per_class"]})}
    accept = {"content-type": SAFETENSORS, "accept": SAFETENSORS}
    with (
        servers.xent() as service,
        httpx2.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=TIMEOUT_S) as plain,
        _client(service) as client,
    ):

        def by_safetensors() -> None:
            body = save({"labels": labels, "logits": logits}, metadata)
            plain.post("/loss/sparse", content=body, headers=accept).raise_for_status()

        def by_protocol() -> None:
            _asked(client, "sparse", COLUMN, logits, labels)

        cases = {BODY: by_safetensors, CLIENT: by_protocol}
        with _triton(logits, labels) if not alone else nullcontext("") as found:
            if not isinstance(found, str):
                cases[TRITON] = found
            samples = interleaved(cases, repetitions)
    rows = [Row(BODY, samples[BODY]), Row(CLIENT, samples[CLIENT], BODY, ("<=", 1.2))]
    if not alone:
        why = found if isinstance(found, str) else ""
        rows.append(Row(TRITON, samples.get(TRITON), CLIENT, limit=why))
    size = f"{len(logits)} x {logits.shape[1]} float32"
    notes = ["Writing the body and reading the answer are part of it."]
    if not alone:
        notes.append("Triton is compared with the service, asked by the same client.")
    title = f"KServe V2, {size}, per class: {logits.nbytes / 1e6:.1f} MB"
    return Table(title, "ms", tuple(rows), tuple(notes))


@contextmanager
def _triton(logits: Tensor, labels: Tensor) -> Iterator[Callable[[], None] | str]:
    """Yield what asks Triton for the same, or why it cannot be asked."""
    with ExitStack() as running:
        try:
            server = running.enter_context(servers.pytriton())
        except NotInstalled as error:
            yield str(error)
        except (RuntimeError, OSError) as error:
            sys.stderr.write(f"{error}\n")  # of any length: for the terminal, not the table
            yield "it did not start"
        else:
            client = running.enter_context(_client(server))
            yield lambda: _asked(client, "loss", "loss_sum", logits, labels)


def _asked(client: Any, model: str, column: str, logits: Tensor, labels: Tensor) -> None:  # noqa: ANN401
    """Ask for the loss and for a number of each class."""
    inputs = [_sent("labels", labels), _sent("logits", logits)]
    outputs = [InferRequestedOutput("loss"), InferRequestedOutput(column)]
    client.infer(model, inputs, outputs=outputs).as_numpy(column)


def _on_one_host(logits: Tensor, labels: Tensor, *, repetitions: int) -> Table:
    """The logits lie in shared memory beforehand; a loss over loopback must be sent there."""
    torch.set_num_threads(THREADS)
    cases: dict[str, Callable[[], object]] = {
        IN_PROCESS: lambda: functional.cross_entropy(logits, labels)
    }
    copied, mapped = "shared memory, copied", "shared memory, mapped"
    with (
        _sharing("copied", logits, labels) as safe,
        _sharing("mapped", logits, labels) as in_place,
    ):
        inputs = _shared(logits, labels)
        cases[copied] = lambda: _loss(safe, inputs)
        cases[mapped] = lambda: _loss(in_place, inputs)
        cases[CLIENT] = lambda: _loss(in_place, [_sent("labels", labels), _sent("logits", logits)])
        samples = interleaved(cases, repetitions)
    rows = (
        Row(IN_PROCESS, samples[IN_PROCESS]),
        Row(copied, samples[copied], IN_PROCESS, ("<", 1.0), "rows are copied and evaluated"),
        Row(mapped, samples[mapped], IN_PROCESS, ("<", 1.0), "rows are evaluated"),
        Row(CLIENT, samples[CLIENT], IN_PROCESS),
    )
    size = f"{logits.nbytes / (1 << 20):.0f} MiB of logits, {WIDE} classes float32"
    note = f"{THREADS} threads in the client; the service has its defaults."
    return Table(f"KServe V2 on one host, {size}, mean loss", "ms", rows, (note,))


@contextmanager
def _sharing(mode: Literal["copied", "mapped"], *tensors: Tensor) -> Iterator[Server]:
    """Run a service that has a region with these tensors, one after the other."""
    size = sum(each.nbytes for each in tensors)
    key = f"{REGION}-{mode}"
    handle = shm.create_shared_memory_region(REGION, key, size)
    try:
        shm.set_shared_memory_region(handle, [each.numpy() for each in tensors])
        with servers.xent(shared_memory=mode) as service, _client(service) as client:
            client.register_system_shared_memory(REGION, key, size)
            yield service
    finally:
        shm.destroy_shared_memory_region(handle)


@contextmanager
def _client(service: Server) -> Iterator[Any]:
    address = f"127.0.0.1:{service.port}"
    with InferenceServerClient(
        address, connection_timeout=TIMEOUT_S, network_timeout=TIMEOUT_S
    ) as client:
        yield client


def _loss(service: Server, inputs: Sequence[InferInput]) -> object:
    """Return a loss, over a connection of its own: slow cases in between let others be closed."""
    with _client(service) as client:
        return client.infer("sparse", list(inputs)).as_numpy("loss")


def _sent(name: str, tensor: Tensor) -> InferInput:
    found = InferInput(name, list(tensor.shape), DATATYPES[tensor.dtype])
    return found.set_data_from_numpy(tensor.numpy())


def _shared(logits: Tensor, labels: Tensor) -> list[InferInput]:
    inputs = [
        InferInput("logits", list(logits.shape), "FP32"),
        InferInput("labels", list(labels.shape), "INT64"),
    ]
    inputs[0].set_shared_memory(REGION, logits.nbytes)
    inputs[1].set_shared_memory(REGION, labels.nbytes, logits.nbytes)
    return inputs
