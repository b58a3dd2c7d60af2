"""``python -m benchmarks.peers.pytriton PORT FOLDER``: Triton, started by PyTriton, binary data."""

import os
import sys
import sysconfig
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from pytriton.decorators import sample
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.loss import mean_and_sums

INPUTS: Final = [
    Tensor(name="logits", dtype=np.float32, shape=(-1, -1)),
    Tensor(name="labels", dtype=np.int64, shape=(-1,)),
]
OUTPUTS: Final = [
    Tensor(name="loss", dtype=np.float64, shape=(1,)),
    Tensor(name="loss_sum", dtype=np.float64, shape=(-1,)),
]


@sample
def loss(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return mean and sums."""
    mean, sums = mean_and_sums(torch.from_numpy(logits), torch.from_numpy(labels))
    return {"loss": np.array([mean]), "loss_sum": np.array(sums)}


def _config(port: int) -> TritonConfig:
    return TritonConfig(
        http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False
    )


if __name__ == "__main__":
    # Triton's helper loads libpython: this interpreter's, or it does not fit its own library.
    os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")
    own = str(Path(sys.argv[2]) / "workspace")  # which it wants to make itself
    with Triton(config=_config(int(sys.argv[1])), workspace=own) as server:
        server.bind("loss", loss, INPUTS, OUTPUTS, config=ModelConfig(batching=False))
        server.serve()
