"""A service that has answered a little, for what looks at it from outside."""

from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.deploy.exported import Exported
from tests.deploy.exported import exported as exported_by
from tests.service.harness import BATCH, Running

# (2, 4) float32, the first row all NaN.
NAN = {
    "dtype": "float32",
    "shape": [2, 4],
    "data": b64encode(b"\x00\x00\xc0\x7f" * 4 + bytes(16)).decode(),
}

TRACK = {
    "project": "digits",
    "model": "reader",
    "model_version": "1",
    "batch_id": "first",
    "event_time": datetime.now(UTC).isoformat(),
    "label_schema": {"name": "four", "classes": ["a", "b", "c", "d"]},
}
ALERT = {
    "name": "loss",
    "kind": "threshold",
    "metric": "loss.mean",
    "threshold": 2.0,
    "selection": {"model": "reader", "variant": "sparse"},
    "step": "1h",
}


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
