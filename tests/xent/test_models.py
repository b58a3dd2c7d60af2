"""Models of the service: features sent, losses answered, versions added and removed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.service.harness import Running
from tests.service.models.nets import CLASSES, FEATURES, LABELS, LOGITS, linear, node, raw, save
from tests.xent.answering import Answering, response
from xent import (
    AsyncClient,
    Client,
    Conflict,
    InvalidBatch,
    ModelVersion,
    NotFound,
    Port,
    Refused,
    Spec,
    Track,
    Unreadable,
)

NAMES = ["ant", "bee", "cow", "dog"]
SOFTMAX = linear(node("Softmax", "z", "y"))


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service with two versions of a model, and a broken one."""
    folder = tmp_path_factory.mktemp("models")
    save(folder, linear(), "eyes", "1")
    save(folder, SOFTMAX, "eyes", "2", {"classes": NAMES})
    save(folder, b"nonsense", "broken")
    data = tmp_path_factory.mktemp("data")
    server = Running(data_dir=data, models_dir=folder, model_uploads=True, model_rows=8)
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client
    server.stop()


def test_models_are_listed(serving: Client) -> None:
    broken, newest, oldest = serving.models()
    assert (broken.name, broken.version, broken.input) == ("broken", "1", None)
    assert broken.broken
    assert (newest.name, newest.version, newest.classes) == ("eyes", "2", tuple(NAMES))
    assert newest.input == Port("x", "float32", ("rows", 5))
    assert newest.logits is not None
    assert newest.logits.shape[1] == CLASSES
    assert newest.recognised == "softmax"
    assert (oldest.version, oldest.recognised) == ("1", "none")
    assert serving.model("eyes").versions() == [newest, oldest]
    with pytest.raises(NotFound):
        serving.model("nobody").versions()


def test_features_are_answered_as_their_logits_are(serving: Client) -> None:
    model = serving.model("eyes")
    found = model.loss("focal", FEATURES, LABELS, gamma=1.5, outputs=["gradient", "per_class"])
    expected = serving.loss("focal", LOGITS, LABELS, gamma=1.5, outputs=["gradient"])
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-3, atol=1e-7)
    assert found.model is not None
    assert (found.model.name, found.model.version) == ("eyes", "2")
    assert expected.model is None
    assert found.diagnostics[0].code == "softmax_left_out"
    assert found.per_class is not None
    assert found.per_class["name"].tolist() == NAMES
    older = serving.model("eyes", "1").evaluate(
        "focal", FEATURES, LABELS, settings={"gamma": 1.5}, sample_weights=np.ones(23)
    )
    assert older.model is not None
    assert older.model.version == "1"
    assert older.loss == pytest.approx(found.loss, rel=1e-5)


@pytest.mark.parametrize(
    "features",
    [
        FEATURES.tolist(),
        FEATURES.astype(np.float64),
        torch.from_numpy(FEATURES),
        torch.from_numpy(FEATURES).bfloat16(),
        pd.DataFrame(FEATURES),
    ],
    ids=["lists", "float64", "torch", "bfloat16", "pandas"],
)
def test_features_come_from_any_library(features: object, serving: Client) -> None:
    found = serving.model("eyes").loss("sparse", features, LABELS, outputs=["gradient"])
    expected = serving.loss("sparse", LOGITS, LABELS)
    assert found.loss == pytest.approx(expected.loss, rel=2e-2)
    kind = torch.Tensor if isinstance(features, torch.Tensor) else np.ndarray
    assert isinstance(found.gradient, kind)


def test_variants_are_compared(serving: Client) -> None:
    variants: list[str | Spec] = ["sparse", Spec("focal", name="soft", gamma=0.5)]
    found = serving.model("eyes", "1").compare(FEATURES, LABELS, variants=variants)
    expected = serving.compare(LOGITS, LABELS, variants=variants)
    for one, other in zip(found.results, expected.results, strict=True):
        assert one.name == other.name
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.model is not None
        assert one.model.version == "1"


def test_the_model_is_tracked_by_itself(serving: Client) -> None:
    track = Track("zoo", None, None, "animals", classes=NAMES)
    model = serving.model("eyes")
    model.loss("sparse", FEATURES, LABELS, track=track.of(batch_id="now"))
    model.loss("sparse", FEATURES, track=track.of(batch_id="late", pending=True))
    serving.labels("zoo", "eyes", "2", "late", LABELS)
    (series,) = serving.project("zoo").series().table.rows()
    assert (series["model"], series["model_version"], series["batches"]) == ("eyes", "2", 2)


def test_what_does_not_fit_is_said(serving: Client) -> None:
    with pytest.raises(InvalidBatch, match="labels are missing"):
        serving.model("eyes").loss("sparse", FEATURES)
    with pytest.raises(Refused) as raised:
        serving.model("eyes").loss("sparse", FEATURES[:, :2], LABELS)
    assert raised.value.pointers == ("/features",)
    with pytest.raises(NotFound):
        serving.model("eyes", "9").loss("sparse", FEATURES, LABELS)
    with pytest.raises(Refused, match="broken"):
        serving.model("broken").loss("sparse", FEATURES, LABELS)


def test_versions_come_and_go(serving: Client, tmp_path: Path) -> None:
    model = serving.model("hands")
    made = model.upload("1", raw(SOFTMAX))
    assert isinstance(made, ModelVersion)
    assert (made.name, made.version, made.recognised) == ("hands", "1", "softmax")
    assert model.upload("1", raw(SOFTMAX)) == made, "the same again changes nothing"
    with pytest.raises(Conflict):
        model.upload("1", raw(linear()))
    path = tmp_path / "model.onnx"
    path.write_bytes(raw(linear()))
    assert model.upload("2", path).recognised == "none"
    assert [each.version for each in model.versions()] == ["2", "1"]
    with pytest.raises(Refused):
        model.upload("3", b"nonsense")
    with pytest.raises(InvalidBatch, match="No such file"):
        model.upload("3", tmp_path / "missing.onnx")
    for version in ("1", "2"):
        model.remove(version)
    with pytest.raises(NotFound):
        model.versions()


@pytest.mark.anyio
async def test_whoever_awaits_asks_the_same(serving: Client) -> None:
    async with AsyncClient(serving.configuration.url) as client:
        model = client.model("eyes", "2")
        assert repr(model) == "AsyncModel('eyes', '2')"
        answer = await model.loss("focal", FEATURES, LABELS, gamma=1.5)
        assert answer.loss == serving.model("eyes").loss("focal", FEATURES, LABELS, gamma=1.5).loss
        assert await client.models() == serving.models()
        found = await model.compare(FEATURES, LABELS, variants=["sparse"])
        assert found.results[0].model is not None
        assert await model.versions() == serving.model("eyes").versions()
        with pytest.raises(Conflict):
            await model.upload("2", raw(linear()))


def test_what_is_no_model_is_not_taken_for_one() -> None:
    with (
        Answering([response(200, b'{"models": [{"name": "a", "versions": [{}]}]}')]) as server,
        Client(server.url) as client,
        pytest.raises(Unreadable, match="no model of Xent"),
    ):
        client.models()
    assert repr(client.model("a")) == "Model('a')"
