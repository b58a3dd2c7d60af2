"""The callback for Lightning, where that was installed: make test-clients."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.environments import HERE
from tests.service.harness import Running
from tests.xent.rows import LABELS, LOGITS
from xent import Client, InvalidBatch, Track

sys.path.append(str(HERE / "lightning"))  # last: of what both have, ours
lightning = pytest.importorskip("lightning", reason="no Lightning here: make test-clients")
TRACK = Track("digits", "net", "7", "animals", classes=["ant", "bee", "cat", "dog"])
LOADER = DataLoader(
    TensorDataset(torch.from_numpy(LOGITS), torch.from_numpy(LABELS)), batch_size=13
)


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Client]:
    server = Running(data_dir=tmp_path)
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client
    server.stop()


@pytest.mark.filterwarnings("ignore")  # Lightning's own, about loaders and loggers
def test_every_validation_batch_is_tracked(keeping: Client, tmp_path: Path) -> None:
    from xent.lightning import TrackValidation  # noqa: PLC0415  (needs Lightning)

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:  # noqa: ANN401
            return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> dict[str, torch.Tensor]:  # noqa: ANN401
            return {"logits": self.layer(batch[0])}

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback = TrackValidation(keeping, "sparse", TRACK)
    trainer = lightning.Trainer(
        max_epochs=2,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    module = Module()
    trainer.fit(module, LOADER, LOADER)
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(
            module.layer(torch.from_numpy(LOGITS)), torch.from_numpy(LABELS)
        )
    assert callback.validation.loss == pytest.approx(expected.item(), rel=1e-5)
    assert trainer.callback_metrics["xent/sparse"] == pytest.approx(expected.item(), rel=1e-5)
    (series,) = keeping.project("digits").series().table.rows()
    assert series["batches"] == 10, "the rehearsal before the training is not tracked"


def test_a_step_that_returns_no_logits_is_told_what_to_return() -> None:
    from xent.lightning import logits_and_labels  # noqa: PLC0415  (needs Lightning)

    with pytest.raises(InvalidBatch, match="from validation_step, or give read="):
        logits_and_labels(torch.ones(1), (1, 2))
    assert logits_and_labels({"logits": 1, "labels": 2}, None) == (1, 2)
