"""Models listed, uploaded, removed, kept loaded, and asked by many at once."""

import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.models.sessions import Sessions
from tests.service.conftest import Start
from tests.service.harness import PATIENCE_S, Running, until
from tests.service.models.nets import (
    CLASSES,
    FEATURES,
    LABELS,
    LOGITS,
    W,
    endless,
    linear,
    node,
    raw,
    save,
    scalar,
)

BATCH = {"features": FEATURES.tolist(), "labels": LABELS.tolist()}
KEYS = "ada:evaluate,bob:evaluate+manage"


def shifted(step: float) -> bytes:
    """Return a model whose logits are scaled by a step: each has a loss of its own."""
    return raw(linear(node("Mul", "z step", "y"), constants={"step": scalar(step)}))


def loss_of(running: Running, logits: np.ndarray[Any, Any]) -> float:
    document = {"logits": logits.tolist(), "labels": LABELS.tolist()}
    return float(running.client.post("/loss/sparse", json=document).json()["loss"])


@pytest.fixture
def running(start: Start, tmp_path: Path) -> Running:
    models = tmp_path / "models"
    models.mkdir()
    return start(models_dir=models, model_uploads=True, model_sessions=2, workers=2, threads=1)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_models_are_listed_with_what_they_are(running: Running, models: Path) -> None:
    names = ["ant", "bee", "cow", "dog"]
    save(models, linear(node("Softmax", "z", "y")), "net", "1.9", card={"classes": names})
    save(models, linear(), "net", "1.10")
    save(models, b"nothing", "bad")
    (models / ".hidden" / "1").mkdir(parents=True)
    (models / "empty").mkdir()
    (models / "a file").write_text("")
    listed = running.client.get("/models").json()["models"]
    assert [each["name"] for each in listed] == ["bad", "net"]
    (bad,) = listed[0]["versions"]
    assert bad["version"] == "1"
    assert "cannot be parsed" in bad["broken"]
    new, old = listed[1]["versions"]
    assert (new["version"], old["version"]) == ("1.10", "1.9")
    assert (new["recognised"], old["recognised"]) == ("none", "softmax")
    assert old["classes"] == names
    port = {"name": "x", "dtype": "float32", "shape": ["rows", FEATURES.shape[1]]}
    assert old["inputs"] == [port]
    assert old["logits"]["shape"] == ["rows", CLASSES]
    assert running.client.get("/models/net").json() == listed[1]
    answer = running.client.post("/models/net/loss/sparse", json=BATCH).json()
    assert answer["model"]["version"] == "1.10"
    for where in ("/models/net/loss/sparse?version=1.9", "/models/net/versions/1.9/loss/sparse"):
        answer = running.client.post(where, json={**BATCH, "outputs": ["per_class"]}).json()
        assert answer["model"]["version"] == "1.9"
        assert answer["per_class"]["name"] == names


def test_a_changed_file_is_read_again(running: Running, models: Path) -> None:
    for step in (1.0, 2.0):
        save(models, shifted(step))
        answer = running.client.post("/models/net/loss/sparse", json=BATCH).json()
        assert answer["loss"] == pytest.approx(loss_of(running, LOGITS * step), rel=1e-5)
    save(models, b"broken now")
    assert running.client.post("/models/net/loss/sparse", json=BATCH).status_code == 422
    save(models, linear(), card={"pre_softmax": "h"})
    answer = running.client.post("/models/net/loss/sparse", json=BATCH).json()
    assert answer["loss"] == pytest.approx(loss_of(running, FEATURES @ W), rel=1e-5)


def test_versions_are_uploaded_once_and_deleted(running: Running, models: Path) -> None:
    client, one, two = running.client, shifted(1.0), shifted(2.0)
    answer = client.put("/models/net/1", content=one)
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "created"
    assert answer.json()["version"]["recognised"] == "none"
    answer = client.put("/models/net/1", content=one)
    assert (answer.status_code, answer.json()["status"]) == (200, "unchanged")
    answer = client.put("/models/net/1", content=two)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/model-conflict")
    assert (models / "net" / "1" / "model.onnx").read_bytes() == one
    assert client.put("/models/net/2", content=two).status_code == 201
    answer = client.post("/models/net/loss/sparse", json=BATCH).json()
    assert answer["loss"] == pytest.approx(loss_of(running, LOGITS * 2), rel=1e-5)
    assert client.delete("/models/net/2").status_code == 204
    assert client.delete("/models/net/2").status_code == 404
    assert client.post("/models/net/loss/sparse", json=BATCH).json()["model"]["version"] == "1"
    assert client.delete("/models/net/1").status_code == 204
    assert client.get("/models").json() == {"models": []}
    assert client.get("/models/net").status_code == 404
    # Nothing is left of what was half written or half removed.
    assert not list((models / "net").iterdir())
    gone = {"content-encoding": "gzip"}
    assert client.put("/models/net/3", content=one, headers=gone).status_code == 415


@pytest.mark.slow
def test_uploads_at_the_same_time_leave_one_of_them(running: Running, models: Path) -> None:
    files = [shifted(1.0 + index) for index in range(4)]
    with ThreadPoolExecutor(4) as pool:
        codes = list(
            pool.map(
                lambda data: running.client.put("/models/net/1", content=data).status_code, files
            )
        )
    assert sorted(codes) == [201, 409, 409, 409]
    kept = (models / "net" / "1" / "model.onnx").read_bytes()
    assert kept == files[codes.index(201)]


def test_uploads_need_the_setting_the_scope_and_room(start: Start, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    locked = start(models_dir=models)
    answer = locked.client.put("/models/net/1", content=shifted(1.0))
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/not-offered")
    locked.stop()
    keyed = start(models_dir=models, model_uploads=True, model_bytes=1000, api_keys=KEYS)

    def put(key: str, data: bytes) -> int:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return keyed.client.put("/models/net/1", content=data, headers=headers).status_code

    small = shifted(1.0)
    assert len(small) < 1000
    assert [put(key, small) for key in ("", "eve", "ada", "bob")] == [401, 401, 403, 201]
    assert put("bob", bytes(1001)) == 413
    assert keyed.client.delete("/models/net/1").status_code == 401
    assert keyed.client.get("/models").status_code == 401
    assert keyed.client.post("/models/net/loss/sparse", json=BATCH).status_code == 401
    pieces = {"authorization": "Bearer bob"}
    body = iter([bytes(600), bytes(600)])
    assert keyed.client.put("/models/net/2", content=body, headers=pieces).status_code == 413


def test_a_folder_that_cannot_be_written_is_said(start: Start, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    running = start(models_dir=blocked, model_uploads=True)
    answer = running.client.put("/models/net/1", content=shifted(1.0))
    assert answer.status_code == 503
    assert "the model cannot be written" in answer.json()["detail"]
    assert running.client.get("/models").json() == {"models": []}


@pytest.mark.slow
def test_many_ask_many_models_with_few_loaded(running: Running, models: Path) -> None:
    steps = [1.0, 1.5, 2.0, 2.5]
    for index, step in enumerate(steps):
        save(models, shifted(step), f"net-{index}")
    expected = [loss_of(running, LOGITS * step) for step in steps]

    def ask(index: int) -> float:
        answer = running.client.post(f"/models/net-{index % 4}/loss/sparse", json=BATCH)
        assert answer.status_code == 200, answer.text
        return float(answer.json()["loss"])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(48)))
    for index, loss in enumerate(found):
        assert loss == pytest.approx(expected[index % 4], rel=1e-5)
    assert "xent_models_loaded 2.0" in running.client.get("/metrics").text


def test_what_is_loaded_is_made_once_and_bounded() -> None:
    sessions: Sessions[str] = Sessions(2)
    made: list[str] = []
    gate = threading.Event()

    def make(key: str) -> str:
        gate.wait(PATIENCE_S)
        made.append(key)
        return key

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(sessions.get, "a", lambda: make("a")) for _ in range(4)]
        gate.set()
        assert [each.result() for each in asked] == ["a"] * 4
    assert made == ["a"]
    for key in ("b", "a", "c", "a", "b"):
        sessions.get(key, partial(make, key))
    assert made == ["a", "b", "c", "b"]
    assert sessions.size == 2

    def fails() -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        sessions.get("d", fails)
    assert sessions.get("d", lambda: "d") == "d"


def test_a_model_stops_when_its_client_leaves(running: Running, models: Path) -> None:
    save(models, endless())
    engine = running.server.config.app.state.engine  # type: ignore[union-attr]
    assert running.client.post("/models/net/loss/sparse", json=BATCH).status_code == 200
    large = json.dumps({**BATCH, "features": (FEATURES * 0 + 1000).tolist()})
    head = "POST /models/net/loss/sparse HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_S) as connection:
        connection.sendall(f"{head}content-length: {len(large)}\r\n\r\n{large}".encode())
        until(lambda: engine.busy == 1)
    until(lambda: engine.busy == 0)
    assert running.client.post("/models/net/loss/sparse", json=BATCH).status_code == 200


@pytest.mark.slow
def test_neither_onnx_nor_its_runtime_is_loaded_before_it_is_asked_for() -> None:
    program = (
        "import sys; from service.app import create_app; from service.settings import Settings; "
        "create_app(Settings(models_dir='.')); print({'onnx', 'onnxruntime'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"set()"
