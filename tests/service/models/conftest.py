"""A folder of models, and a server of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.harness import PATIENCE_S, Running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that :func:`serving` serves."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def serving(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for everybody who does not break it."""
    server = Running(
        data_dir=tmp_path_factory.mktemp("data"),
        models_dir=folder,
        model_uploads=True,
        model_bytes=1_000_000,
        model_rows=8,
        model_memory_bytes=1 << 28,
        model_trial_s=PATIENCE_S,
        model_sessions=4,
        classes=2_000,
        elements=400_000,
    )
    yield server
    server.stop()
