"""``python -m benchmarks.peers.mlserver PORT FOLDER``: MLServer, the V2 protocol with JSON."""

import asyncio
import sys

import mlserver
import torch
from mlserver.codecs import NumpyCodec

from benchmarks.peers.loss import mean_and_sums


class Loss(mlserver.MLModel):
    """A model without weights."""

    async def load(self) -> bool:
        """Nothing to load."""
        return True

    async def predict(self, payload: mlserver.types.InferenceRequest) -> object:
        """Return mean and sums."""
        inputs = {
            each.name: torch.from_numpy(NumpyCodec.decode_input(each)) for each in payload.inputs
        }
        mean, sums = mean_and_sums(inputs["logits"], inputs["labels"])
        outputs = [
            mlserver.types.ResponseOutput(name=name, shape=[len(data)], datatype="FP64", data=data)
            for name, data in (("loss", [mean]), ("loss_sum", sums))
        ]
        return mlserver.types.InferenceResponse(model_name=self.name, outputs=outputs)


def _settings(port: int, folder: str) -> mlserver.Settings:
    return mlserver.Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=0,
        metrics_endpoint=None,
        metrics_dir=folder,
        environments_dir=folder,
        # In the process that parses: no copy to another one.
        parallel_workers=0,
        debug=False,
    )


if __name__ == "__main__":
    server = mlserver.MLServer(_settings(int(sys.argv[1]), sys.argv[2]))
    asyncio.run(server.start([mlserver.ModelSettings(name="loss", implementation=Loss)]))
