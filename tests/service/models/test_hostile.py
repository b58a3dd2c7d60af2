"""Files that are no models, or none that is taken: a clear error each, and the service goes on."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from service.errors import BrokenModel, InvalidDocument
from service.models.folder import Folder
from service.models.names import order
from service.models.trials import Trials
from tests.service.harness import PATIENCE_S, Running, until
from tests.service.models.nets import (
    FEATURES,
    LABELS,
    endless,
    linear,
    net,
    node,
    raw,
    save,
    scalar,
)

BATCH = {"features": FEATURES.tolist(), "labels": LABELS.tolist()}


def external() -> ModelProto:
    model = linear()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return model


def hidden_external() -> ModelProto:
    """Return a model whose reference to a file is within a branch."""
    secret = external().graph.initializer[0]
    outputs = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    branch = helper.make_graph([node("Identity", "W2", "r")], "b", [], outputs)
    secret.name = "W2"
    branch.initializer.append(secret)
    other = helper.make_graph([node("Identity", "z", "r")], "b", [], outputs)
    return linear(
        node("If", "yes", "y", then_branch=other, else_branch=branch),
        constants={"yes": np.array(True)},
    )


def custom() -> ModelProto:
    mine = helper.make_node("Mine", ["z"], ["y"], domain="com.example")
    return linear(mine, more=[("com.example", 1)])


def microsoft() -> ModelProto:
    fused = helper.make_node("Gelu", ["z"], ["y"], domain="com.microsoft")
    return linear(fused, more=[("com.microsoft", 1)])


def too_new() -> ModelProto:
    return linear(opset=99)


def newest_format() -> ModelProto:
    model = linear()
    model.ir_version = 99
    return model


def huge_initialiser() -> ModelProto:
    model = linear()
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 22]
    return model


def negative() -> ModelProto:
    model = linear()
    model.graph.initializer[0].dims[:] = [-1, -20]
    return model


def huge_features() -> ModelProto:
    return net(
        [node("ReduceMean", "x", "m", axes=[1]), node("Add", "m bias", "y")],
        {"bias": np.zeros(4, np.float32)},
        inputs=[("x", TensorProto.FLOAT, ["rows", 1 << 40])],
    )


def huge_inside() -> ModelProto:
    """Return a model of a few bytes that makes a tensor of terabytes."""
    return linear(
        node("ConstantOfShape", "size", "c"),
        node("ReduceMax", "c", "top", keepdims=0),
        node("Add", "z top", "y"),
        constants={"size": np.array([1 << 40])},
    )


def many_classes() -> ModelProto:
    return linear(
        node("Expand", "first wide", "y"),
        constants={"wide": np.array([4, 5000]), "first": scalar(0)},
        outputs=[("y", TensorProto.FLOAT, [4, 5000])],
    )


def cyclic() -> ModelProto:
    return net([node("Add", "x b", "a"), node("Add", "a a", "b"), node("Identity", "b", "y")], {})


def unknown_operator() -> ModelProto:
    return linear(node("Nonsense", "z", "y"))


def no_rows() -> ModelProto:
    return linear(node("ReduceSum", "z", "y", keepdims=0), outputs=[("y", TensorProto.FLOAT, [])])


def texts() -> ModelProto:
    return net(
        [node("StringNormalizer", "x", "s"), node("Cast", "s", "y", to=TensorProto.FLOAT)],
        {},
        inputs=[("x", TensorProto.STRING, [1])],
    )


REFUSED: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "external data": (external, "lies in another file"),
    "external data in a branch": (hidden_external, "lies in another file"),
    "custom domain": (custom, "the domain 'com.example' are not taken"),
    "com.microsoft": (microsoft, "the domain 'com.microsoft' are not taken"),
    "opset": (too_new, "opset 99 is newer than what is known here: export with opset"),
    "IR version": (newest_format, "IR version 99 is newer"),
    "huge initialiser": (huge_initialiser, "bytes by its shape and has 80"),
    "negative size": (negative, "negative size"),
    "huge features": (huge_features, "a row of features has 1099511627776 numbers"),
    "huge inside": (huge_inside, "does not run"),
    "classes": (many_classes, "5000 classes, more than 2000"),
    "cycle": (cyclic, "the model is not valid"),
    "operator": (unknown_operator, "the model is not valid"),
    "no rows": (no_rows, "logits have a row for each"),
    "texts": (texts, "takes tensor(string), not numbers"),
}


def problem(answer: httpx2.Response, status: int, kind: str) -> str:
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert document["type"] == f"/problems/{kind}"
    return str(document["detail"])


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_taken_is_said_and_the_service_goes_on(
    serving: Running, folder: Path, name: str
) -> None:
    make, expected = REFUSED[name]
    model = name.replace(" ", "-")
    save(folder, make(), model)
    ask = f"/models/{model}/loss/sparse"
    assert expected in problem(serving.client.post(ask, json=BATCH), 422, "model-invalid")
    (listed,) = serving.client.get(f"/models/{model}").json()["versions"]
    assert expected in listed["broken"]
    upload = serving.client.put(f"/models/{model}/2", content=raw(make()))
    assert expected in problem(upload, 422, "model-invalid")
    assert not (folder / model / "2").exists()
    assert serving.alive()


def garbage() -> list[bytes]:
    good = raw(linear(node("Softmax", "z", "y")))
    random = np.random.default_rng(5)
    cut = [good[: len(good) * part // 8] for part in range(8)]
    noise = [random.bytes(size) for size in (1, 7, 100, 10_000)]
    turned = []
    for place in random.integers(len(good), size=40):
        changed = bytearray(good)
        changed[place] ^= 1 << int(random.integers(8))
        turned.append(bytes(changed))
    return [*cut, *noise, *turned]


def test_damaged_files_never_do_more_than_fail() -> None:
    taken = 0
    limits = {
        "memory_bytes": 1 << 28,
        "elements": 400_000,
        "classes": 2000,
        "deadline_s": PATIENCE_S,
    }
    with Trials(**limits) as trials:  # type: ignore[arg-type]
        for data in garbage():
            try:
                trials.examine(data, None)
                taken += 1  # a weight that is another number
            except BrokenModel as error:
                assert str(error)  # noqa: PT017
    assert 0 < taken < 40


def test_a_process_that_dies_or_hangs_is_a_broken_model() -> None:
    limits: dict[str, Any] = {"memory_bytes": 1 << 28, "elements": 400_000, "classes": 2000}
    with Trials(**limits, deadline_s=0.0) as hurried, pytest.raises(BrokenModel, match="tried for"):
        hurried.examine(raw(linear()), None)
    with Trials(**limits, deadline_s=PATIENCE_S) as trials:
        trials.examine(raw(linear()), None)
        trials._started().kill()
        with pytest.raises(BrokenModel, match="ended with signal 9"):
            trials.examine(raw(linear()), None)
        assert trials.examine(raw(linear()), None).opset  # by another one


@pytest.mark.slow
@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (b"{", "model.json is not JSON"),
        (b"\xff", "model.json is not JSON"),
        (b"[]", "model.json"),
        ({"clases": ["a"]}, "known: input, constants, output"),
        ({"input": "w"}, "the model has no input 'w'; it has 'x'"),
        ({"output": "w"}, "the model has no output 'w'; it has 'y'"),
        ({"pre_softmax": "w"}, "no node gives a tensor 'w'"),
        ({"classes": ["a", "b"]}, "names 2 classes, and the logits have 4"),
        ({"classes": "abcd"}, "model.json: /classes"),
        ({"constants": {"x": 1}}, "the model has 0 inputs"),
        (b"[" * 100_000, "model.json is not JSON"),
    ],
)
def test_a_card_that_makes_no_sense(
    serving: Running, folder: Path, card: dict[str, Any] | bytes, expected: str
) -> None:
    save(folder, linear(), "carded", card=card)
    answer = serving.client.post("/models/carded/loss/sparse", json=BATCH)
    assert expected in problem(answer, 422, "model-invalid")
    assert serving.alive()


@pytest.mark.parametrize(
    "name", ["..", ".", ".hidden", "a%2Fb", "..%2F..%2Fetc", "a%00b", "-a", "a" * 65, "é", "a b"]
)
def test_names_that_are_none(serving: Running, folder: Path, name: str) -> None:
    client = serving.client
    for answer in (
        client.post(f"/models/{name}/loss/sparse", json=BATCH),
        client.post(f"/models/net/versions/{name}/loss/sparse", json=BATCH),
        client.post("/models/net/loss/sparse", params={"version": name}, json=BATCH),
        client.put(f"/models/{name}/1", content=raw(linear())),
        client.put(f"/models/net/{name}", content=raw(linear())),
        client.delete(f"/models/{name}/1"),
    ):
        assert answer.status_code in (404, 405, 422), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    for bad in (name, "..", "a/b", "/etc", "a\n"):
        with pytest.raises(InvalidDocument):
            Folder(folder, limit=1).chosen(bad, None)


def test_links_out_of_the_folder_are_not_followed(
    serving: Running, folder: Path, tmp_path: Path
) -> None:
    save(tmp_path, linear(), "outside")
    outside = tmp_path / "outside"
    (folder / "linked-model").symlink_to(outside)
    (folder / "linked-version").mkdir(exist_ok=True)
    (folder / "linked-version" / "1").symlink_to(outside / "1")
    place = save(folder, linear(), "linked-file")
    (place / "model.onnx").unlink()
    (place / "model.onnx").symlink_to(outside / "1" / "model.onnx")
    card = save(folder, linear(), "linked-card")
    (card / "model.json").symlink_to("/etc/passwd")
    circle = save(folder, linear(), "circle")
    (circle / "model.onnx").unlink()
    (circle / "model.onnx").symlink_to(circle / "model.onnx")
    pipe = save(folder, linear(), "pipe")
    (pipe / "model.onnx").unlink()
    os.mkfifo(pipe / "model.onnx")
    for name in ("linked-model", "linked-version", "linked-file", "linked-card", "circle", "pipe"):
        answer = serving.client.post(f"/models/{name}/loss/sparse", json=BATCH)
        problem(answer, 422, "model-invalid")
    assert serving.client.put("/models/linked-model/2", content=raw(linear())).status_code == 422
    assert not (outside / "2").exists()
    # Links within the folder are how some stores swap versions.
    save(folder, linear(), "within")
    (folder / "within" / "2").symlink_to("1")
    found = serving.client.post("/models/within/loss/sparse", json=BATCH).json()
    assert found["model"]["version"] == "2"


@pytest.mark.slow
def test_an_endless_model_ends_with_its_request(tmp_path: Path) -> None:
    save(tmp_path / "models", endless())
    settings: dict[str, Any] = {"models_dir": tmp_path / "models", "data_dir": tmp_path}
    server = Running(**settings, evaluation_deadline_s=2.0, worker_grace_s=PATIENCE_S)
    try:
        url = "/models/net/loss/sparse"
        until(lambda: server.client.post(url, json=BATCH).status_code == 200)  # it is tried first
        large = {**BATCH, "features": (FEATURES * 0 + 1000).tolist()}
        answer = server.client.post(url, json=large)
        assert "did not end within 2 s" in problem(answer, 503, "unavailable")
        engine = server.server.config.app.state.engine  # type: ignore[union-attr]
        until(lambda: engine.busy == 0)
        until(server.alive)
    finally:
        server.stop()


def test_a_run_that_needs_too_much_memory_fails_alone(serving: Running, folder: Path) -> None:
    hungry = linear(
        node("ReduceMax", "x", "top", keepdims=0),
        node("Cast", "top", "n", to=TensorProto.INT64),
        node("Max", "n one", "size"),
        node("Reshape", "size flat", "shape"),
        node("ConstantOfShape", "shape", "c"),
        node("ReduceMax", "c", "t", keepdims=0),
        node("Add", "z t", "y"),
        constants={"one": np.array(1), "flat": np.array([1])},
    )
    save(folder, hungry, "hungry")
    ask = "/models/hungry/loss/sparse"
    assert serving.client.post(ask, json=BATCH).status_code == 200
    large = {**BATCH, "features": (FEATURES * 0 + 1e9).tolist()}
    assert "does not run" in problem(serving.client.post(ask, json=large), 422, "model-failed")
    assert serving.client.post(ask, json=BATCH).status_code == 200


def test_what_is_not_there(serving: Running, folder: Path) -> None:
    client = serving.client
    save(folder, linear(), "digits")
    detail = problem(client.post("/models/digit/loss/sparse", json=BATCH), 404, "model-unknown")
    assert "did you mean 'digits'?" in detail
    answer = client.post("/models/digits/loss/sparse", params={"version": "7"}, json=BATCH)
    assert "known: 1" in problem(answer, 404, "model-unknown")
    (folder / "digits" / "9").mkdir(exist_ok=True)
    answer = client.post("/models/digits/loss/sparse", json=BATCH)
    assert "there is no model.onnx" in problem(answer, 422, "model-invalid")


def test_versions_are_ordered_by_their_numbers() -> None:
    days = ["2026-01-31", "2025-12-01", "2026-02-01"]
    assert sorted(days, key=order) == ["2025-12-01", "2026-01-31", "2026-02-01"]
    assert sorted(["v10", "v9", "v9a", "v"], key=order) == ["v", "v9", "v9a", "v10"]
    assert sorted(["1.10", "1.9", "1.2"], key=order) == ["1.2", "1.9", "1.10"]
    assert sorted(["10", "9", "100"], key=order) == ["9", "10", "100"]


def test_a_service_without_models(shared: Running) -> None:
    assert shared.client.get("/models").json() == {"models": []}
    answer = shared.client.post("/models/net/loss/sparse", json=BATCH)
    assert "set XENT_MODELS_DIR" in problem(answer, 404, "model-unknown")
    upload = shared.client.put("/models/net/1", content=b"")
    assert "set XENT_MODEL_UPLOADS" in problem(upload, 400, "not-offered")


def test_threads_end_with_their_requests(serving: Running, folder: Path) -> None:
    save(folder, linear(), "quiet")
    for _ in range(3):
        assert serving.client.post("/models/quiet/loss/sparse", json=BATCH).status_code == 200
    before = threading.active_count()
    for _ in range(20):
        serving.client.post("/models/quiet/loss/sparse", content=json.dumps(BATCH).encode())
    until(lambda: threading.active_count() <= before + 1)
