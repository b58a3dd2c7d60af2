"""``python -m benchmarks.peers.litserve PORT``: LitServe, the body as bytes, as safetensors."""

import json
import sys
from typing import Annotated, Any

import litserve
import torch
from fastapi import Depends, Request

from benchmarks.peers.loss import mean_and_sums


async def _body(request: Request) -> bytes:
    return await request.body()


class Loss(litserve.LitAPI):
    """Reads both tensors where they lie in the body."""

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request: Annotated[bytes, Depends(_body)]) -> Any:  # noqa: ANN401
        """Return logits and labels."""
        start = 8 + int.from_bytes(request[:8], "little")
        header = json.loads(request[8:start])
        body = bytearray(memoryview(request)[start:])  # torch wants memory that it may write

        def tensor(name: str, dtype: torch.dtype) -> torch.Tensor:
            begin, end = header[name]["data_offsets"]
            flat = torch.frombuffer(
                body, dtype=dtype, offset=begin, count=(end - begin) // dtype.itemsize
            )
            return flat.reshape(header[name]["shape"])

        return tensor("logits", torch.float32), tensor("labels", torch.int64)

    def predict(self, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[float, list[float]]:
        """Return mean and sums."""
        return mean_and_sums(*batch)

    def encode_response(self, found: tuple[float, list[float]]) -> dict[str, object]:
        """Return the answer as a document."""
        mean, sums = found
        return {"loss": mean, "loss_sum": sums}


if __name__ == "__main__":
    # fast_queue: the quicker of its two ways from the server to the worker.
    server = litserve.LitServer(Loss(), accelerator="cpu", fast_queue=True, timeout=60)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
