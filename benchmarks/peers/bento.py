"""``python -m bentoml serve benchmarks.peers.bento:Loss``: BentoML, arrays as JSON."""

import bentoml
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers.loss import mean_and_sums


@bentoml.service(workers=1, traffic={"timeout": 60})
class Loss:
    """A service without a model."""

    @bentoml.api
    def loss(self, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, object]:
        """Return mean and sums."""
        mean, sums = mean_and_sums(torch.from_numpy(logits), torch.from_numpy(labels))
        return {"loss": mean, "loss_sum": sums}
