"""The examples of experiment trackers, where those were installed: make test-clients."""

import json
import math
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.environments import HERE
from demo.learning import CLASSES, validated
from tests.service.harness import Running
from xent import Client

ROOT = Path(__file__).parent.parent.parent
INTERPRETER = HERE / "trackers" / "bin" / "python"
EPOCHS = 5


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    server = Running(data_dir=tmp_path_factory.mktemp("data"))
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client
    server.stop()


@pytest.fixture(scope="module")
def metrics(client: Client) -> list[dict[str, float]]:
    """What is logged in each epoch."""
    return [answer.metrics("xent/") for _, answer in validated(client, EPOCHS)]


def example(module: str, client: Client, folder: Path, **variables: str) -> None:
    """Run an example in the trackers' environment, which has neither PyTorch nor the service."""
    environment = {**os.environ, "XENT_URL": client.configuration.url, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [str(INTERPRETER), "-m", module],
        env={**environment, "HOME": str(folder), **variables},
        cwd=folder,
        capture_output=True,
        timeout=100,
        check=True,
    )


def test_what_is_logged_are_numbers_that_fall(metrics: list[dict[str, float]]) -> None:
    losses = [each["xent/loss"] for each in metrics]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] < math.log(len(CLASSES))
    assert len(metrics) == EPOCHS
    names = {"loss", "rows", "ece", "brier", "p50", "p90", "p99"}
    names |= {f"class/{each}/{what}" for each in CLASSES for what in ("loss_mean", "recall")}
    assert set(metrics[0]) == {f"xent/{name}" for name in names}


@pytest.mark.skipif(not INTERPRETER.exists(), reason="no trackers here: make test-clients")
def test_mlflow_keeps_the_answers(
    client: Client, metrics: list[dict[str, float]], tmp_path: Path
) -> None:
    file = tmp_path / "runs.db"
    example("demo.to_mlflow", client, tmp_path, MLFLOW_TRACKING_URI=f"sqlite:///{file}")
    with sqlite3.connect(file) as runs:
        rows = runs.execute("SELECT step, key, value FROM metrics ORDER BY step").fetchall()
        params = dict(runs.execute("SELECT key, value FROM params"))
    runs.close()
    found: list[dict[str, float]] = [{} for _ in metrics]
    for step, name, value in rows:
        found[step][name] = value
    assert found == metrics
    assert params == {"variant": "sparse", "service": client.configuration.url}


@pytest.mark.skipif(not INTERPRETER.exists(), reason="no trackers here: make test-clients")
def test_weights_and_biases_keeps_the_answers(
    client: Client, metrics: list[dict[str, float]], tmp_path: Path
) -> None:
    example("demo.to_wandb", client, tmp_path, WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    # A log of messages whose texts stand as they are: names, and values as JSON.
    kept = file.read_bytes()
    for each in metrics:
        for name, value in each.items():
            assert name.encode() in kept
            assert json.dumps(value).removesuffix(".0").encode() in kept, name
