"""What models make, tracked through a real history."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.history.tracked import History, track
from tests.service.models.nets import FEATURES, LABELS, LOGITS, linear, node, save

BATCH = {"features": FEATURES.tolist(), "labels": LABELS.tolist()}


def own(batch_id: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return what is tracked, without the model that the service knows."""
    return track(batch_id, **{"model": None, "model_version": None, **changes})


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    models = tmp_path / "models"
    save(models, linear(node("Softmax", "z", "y")), "eyes", "1")
    save(models, linear(), "eyes", "2")
    found = History.start(tmp_path, models_dir=models, model_rows=8)
    yield found
    found.running.stop()


def test_the_series_is_that_of_the_model(history: History) -> None:
    for version in ("1", "2"):
        url = f"/models/eyes/versions/{version}/loss/sparse"
        answer = history.post(url, {**BATCH, "track": own(f"batch-{version}")})
        assert answer["track"]["status"] == "created"
        again = history.post(url, {**BATCH, "track": own(f"batch-{version}")})
        assert again["track"]["status"] == "replayed"
        stated = own(f"logits-{version}", model="eyes", model_version=version)
        logits = {"logits": LOGITS.tolist(), "labels": LABELS.tolist(), "track": stated}
        theirs = history.post("/loss/sparse", logits)
        assert theirs["track"]["series"] == answer["track"]["series"]
        made, sent = (history.sums(f"{each}-{version}") for each in ("batch", "logits"))
        assert (made.rows, made.evaluated) == (sent.rows, sent.evaluated)
        assert made.loss_sum == pytest.approx(sent.loss_sum, rel=1e-5)
        assert made.classes["support"].tolist() == sent.classes["support"].tolist()


def test_a_comparison_makes_a_series_for_each_variant(history: History) -> None:
    variants = [{"variant": "sparse"}, {"variant": "focal"}]
    document = {**BATCH, "variants": variants, "track": own("compared")}
    answer = history.post("/models/eyes/compare", document)
    assert len({each["track"]["series"] for each in answer["results"]}) == 2
    ids = [f"row-{row}" for row in range(len(LABELS))]
    late = own("late", pending=True, sample_ids=ids)
    asked = {"features": BATCH["features"], "variants": variants, "track": late}
    waiting = history.post("/models/eyes/compare", asked)["results"]
    assert all(each["track"]["pending"] for each in waiting)
    named = {"project": "zoo", "model": "eyes", "model_version": "2", "batch_id": "late"}
    done = history.post("/labels", {**named, "labels": LABELS.tolist()})["batches"]
    assert [each["status"] for each in done] == ["completed"] * 2
    losses = [sorted(each["loss"] for each in found) for found in (done, answer["results"])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_another_model_is_refused(history: History) -> None:
    for field in ("model", "model_version"):
        document = {**BATCH, "track": own("batch", **{field: "other"})}
        refused = history.post("/models/eyes/loss/sparse", document, 422)
        assert refused["errors"][0]["pointer"] == f"/track/{field}"
        assert "leave it out" in refused["errors"][0]["message"]
    named = own("named", model="eyes", model_version="2")
    assert history.post("/models/eyes/loss/sparse", {**BATCH, "track": named})["track"]


def test_labels_may_come_later_also_when_the_model_is_gone(
    history: History, tmp_path: Path
) -> None:
    ids = [f"row-{row}" for row in range(len(LABELS))]
    document = {"features": BATCH["features"], "track": own("late", pending=True, sample_ids=ids)}
    answer = history.post("/models/eyes/loss/sparse", document)
    assert answer["track"]["pending"]
    (tmp_path / "models" / "eyes" / "2" / "model.onnx").write_bytes(b"gone")
    late = {
        "project": "zoo",
        "model": "eyes",
        "model_version": "2",
        "batch_id": "late",
        "labels": LABELS[::-1].tolist(),
        "sample_ids": ids[::-1],
    }
    (done,) = history.post("/labels", late)["batches"]
    assert done["status"] == "completed"
    logits = {"logits": LOGITS.tolist(), "labels": LABELS.tolist()}
    expected = history.post("/loss/sparse", logits)["loss"]
    assert done["loss"] == pytest.approx(expected, rel=1e-5)
