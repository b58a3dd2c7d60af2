"""A service that has answered a little, for what looks at it from outside."""

from collections.abc import Iterator

import pytest

from tests.deploy.batches import ALERT, NAN, TRACK
from tests.deploy.exported import Exported
from tests.deploy.exported import exported as exported_by
from tests.service.harness import BATCH, Running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that has answered."""
    server = Running(data_dir=tmp_path_factory.mktemp("data"))
    try:
        for path, document in (
            ("/loss/sparse", BATCH),
            ("/loss/sparse", {**BATCH, "logits": NAN}),
            ("/loss/sparse", {}),
            ("/compare", {**BATCH, "variants": [{"variant": "sparse"}]}),
            ("/loss/sparse", {**BATCH, "track": TRACK}),
            ("/loss/sparse", {**BATCH, "track": TRACK, "labels": [1, 3]}),  # the same name
            ("/projects/digits/alerts", ALERT),
        ):
            server.client.post(path, json=document)
        server.client.get("/health/ready")
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def exported(server: Running) -> Exported:
    """What it exports."""
    return exported_by(server)
