"""``python -m benchmarks.route PORT``: the route that many would write, on the same server.

FastAPI validates ``list[list[float]]``, PyTorch computes the cross-entropy.
"""

import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Batch(BaseModel):
    """Logits and labels, validated number by number."""

    logits: list[list[float]]
    labels: list[int]


@app.post("/loss")
def loss(batch: Batch) -> dict[str, float]:
    """Return the mean cross-entropy."""
    found = torch.nn.functional.cross_entropy(
        torch.tensor(batch.logits), torch.tensor(batch.labels)
    )
    return {"loss": found.item()}


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        log_level="warning",
        access_log=False,
    )
