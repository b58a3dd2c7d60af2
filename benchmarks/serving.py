"""One batch through the service, and through other servers that compute the same loss."""

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from torch import Tensor
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from benchmarks import servers
from benchmarks.bodies import JSON, SAFETENSORS, as_json, as_safetensors, batch
from benchmarks.connection import Connection, Refused, head, post
from benchmarks.environments import NotInstalled
from benchmarks.harness import Row, Sample, Table, interleaved
from benchmarks.servers import Server
from benchmarks.timing import Timing

ROWS: Final = 4096
CLASSES: Final = 1000
OURS: Final = "POST /loss/sparse, safetensors"
OURS_JSON: Final = "POST /loss/sparse, JSON"


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server.

    Attributes:
        name: of its row.
        start: runs it.
        request: the batch as it takes it.
        least: it must take this many times as long as the service.
        repetitions: of the measurement; few for a slow one.
    """

    name: str
    start: Callable[[], AbstractContextManager[Server]]
    request: Callable[[Tensor, Tensor], tuple[bytes]]
    least: float
    repetitions: int


PEERS: Final = (
    Peer(
        "LitServe, the same safetensors",
        servers.litserve,
        lambda *tensors: post("/predict", as_safetensors(*tensors), SAFETENSORS),
        2.0,
        11,
    ),
    Peer(
        "Triton, V2 binary data",
        servers.pytriton,
        lambda *tensors: _as_binary_v2(*tensors),
        2.0,
        11,
    ),
    Peer(
        "MLServer, V2 JSON",
        servers.mlserver,
        lambda *tensors: post("/v2/models/loss/infer", _as_v2(*tensors), JSON),
        20.0,
        3,
    ),
    Peer(
        "BentoML, JSON",
        servers.bentoml,
        lambda *tensors: post("/loss", as_json(*tensors), JSON),
        20.0,
        3,
    ),
)


def run(*, quick: bool) -> Table:
    """Measure the service alone when quick, and one peer after the other beside it otherwise."""
    tensors = batch(ROWS // 16 if quick else ROWS, CLASSES)
    timing = Timing()
    with servers.xent() as service:
        lists = post("/loss/sparse", _with_per_class(as_json(*tensors)), JSON)
        binary = post("/loss/sparse", as_safetensors(*tensors, outputs=["per_class"]), SAFETENSORS)
        ours = _exchange(service, binary, timing)
        own = interleaved({OURS: ours, OURS_JSON: _exchange(service, lists, Timing())}, 5)
        found = [
            _measured(peer, peer.request(*tensors), ours, timing)
            for peer in (() if quick else PEERS)
        ]
    together = Sample(own[OURS].values + tuple(value for _, mine in found for value in mine))
    rows = [Row(OURS, together), Row(OURS_JSON, own[OURS_JSON], OURS), *(row for row, _ in found)]
    return Table(
        f"{tensors[0].shape[0]} x {CLASSES} float32, mean loss and per-class sums",
        "ms",
        tuple(rows),
        (
            "A ratio says how many times as long as the service over safetensors. Every request "
            "on a connection of its own.",
            timing.note(),
        ),
    )


def _measured(
    peer: Peer, request: tuple[bytes], ours: Callable[[], object], timing: Timing
) -> tuple[Row, tuple[float, ...]]:
    """Return a peer's row, and what the service took in turn with it."""
    target = (">=", peer.least)
    try:
        with peer.start() as server:
            theirs = _exchange(server, request, Timing())
            samples = interleaved({"theirs": theirs, "ours": ours}, peer.repetitions)
    except (NotInstalled, Refused) as error:
        return Row(peer.name, None, OURS, target, str(error)), ()
    except (RuntimeError, OSError) as error:
        sys.stderr.write(f"{error}\n")  # of any length: for the terminal, not the table
        return Row(peer.name, None, OURS, target, "it did not start or answer"), ()
    return Row(peer.name, samples["theirs"], OURS, target, timing.limit()), samples["ours"].values


def _exchange(server: Server, request: tuple[bytes], timing: Timing) -> Callable[[], None]:
    """Return one exchange. A slow one in between would have idle connections closed."""

    def run() -> None:
        with Connection(server.port) as connection:
            timing.add(connection.exchange(request))

    return run


def _with_per_class(body: bytes) -> bytes:
    return body[:-1] + b', "outputs": ["per_class"]}'


def _as_binary_v2(logits: Tensor, labels: Tensor) -> tuple[bytes]:
    """Return an inference request with binary data, as the official client writes it."""
    inputs = []
    for name, tensor, datatype in (("logits", logits, "FP32"), ("labels", labels, "INT64")):
        inputs.append(InferInput(name, list(tensor.shape), datatype))
        inputs[-1].set_data_from_numpy(tensor.numpy())
    outputs = [InferRequestedOutput(name) for name in ("loss", "loss_sum")]
    body, length = InferenceServerClient.generate_request_body(inputs, outputs=outputs)
    media_type, further = "application/octet-stream", f"inference-header-content-length: {length}"
    return (head("/v2/models/loss/infer", len(body), media_type, further) + body,)


def _as_v2(logits: Tensor, labels: Tensor) -> bytes:
    """Return an inference request of the V2 protocol, tensors as flat lists."""
    inputs = [
        {
            "name": "logits",
            "datatype": "FP32",
            "shape": list(logits.shape),
            "data": [float(f"{entry:.9g}") for entry in logits.flatten().tolist()],
        },
        {
            "name": "labels",
            "datatype": "INT64",
            "shape": list(labels.shape),
            "data": labels.tolist(),
        },
    ]
    return json.dumps({"inputs": inputs}).encode()
