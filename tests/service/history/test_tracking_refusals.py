"""What cannot be tracked is refused before anything is stored, and says which part it is."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.history import times
from tests.service.batches import ARROW, arrow, batch_of, cut, safetensors
from tests.service.harness import SAFETENSORS
from tests.service.history.tracked import (
    CLASSES,
    IDS,
    LABELS,
    LOGITS,
    ROWS,
    History,
    checked,
    document,
    track,
)

HOUR_AGO = times.text(times.now() - times.HOUR)
IN_AN_HOUR = times.text(times.now() + times.HOUR)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    found = History.start(tmp_path_factory.mktemp("refusing"), pending_bytes=20_000)
    yield found
    found.running.stop()


def refused(history: History, request: dict[str, Any], status: int = 422) -> dict[str, str]:
    """Return what was wrong, by pointer."""
    problem = history.post("/loss/sparse", request, status)
    assert not history.batches("refused")
    return {fault["pointer"]: fault["message"] for fault in problem["errors"]}


@pytest.mark.parametrize(
    ("changes", "pointer", "message"),
    [
        ({"event_time": "2026-11-22T12:00:00"}, "event_time", "offset"),
        ({"event_time": "2026-11-22"}, "event_time", "2026-01-31T12:00:00Z"),
        ({"event_time": "2026-13-22T12:00:00Z"}, "event_time", "month"),
        ({"event_time": "0001-01-01T00:00:00+23:59"}, "event_time", ""),
        ({"event_time": 1_795_348_800}, "event_time", "2026-01-31T12:00:00Z"),
        ({"event_time": "2000-01-01T00:00:00Z"}, "event_time", "RETENTION"),
        ({"event_time": None}, "event_time", "required"),
        ({"project": "a/b"}, "project", "pattern"),
        ({"model": "-x"}, "model", "pattern"),
        ({"model": "x" * 129}, "model", "pattern"),
        ({"model_version": "x\n"}, "model_version", "pattern"),
        ({"batch_id": ""}, "batch_id", "at least 1"),
        ({"batch_id": "x" * 257}, "batch_id", "at most 256"),
        ({"tags": {f"t{n}": "" for n in range(17)}}, "tags", "at most 16"),
        ({"tags": {"a b": "x"}}, "tags/a b", "pattern"),
        ({"tags": {"a": "x" * 257}}, "tags/a", "at most 256"),
        ({"tags": {"a": 1}}, "tags/a", "string"),
        ({"label_schema": None}, "label_schema", "required"),
        ({"label_schema": "never declared"}, "label_schema", "pattern"),
        ({"label_schema": "never-declared"}, "label_schema", "declared"),
        ({"label_schema": {"name": "x", "classes": []}}, "label_schema/classes", "at least 1"),
        (
            {"label_schema": {"name": "x", "classes": ["a", "b", "c"]}},
            "label_schema/classes",
            "3 entries for 4 classes",
        ),
        (
            {"label_schema": {"name": "x", "classes": ["a", "b", "c", "a"]}},
            "label_schema/classes",
            "same name",
        ),
        ({"sample_ids": IDS[1:]}, "sample_ids", "59 entries for 60 rows"),
        ({"cluster_ids": [*IDS, "x"]}, "cluster_ids", "61 entries for 60 rows"),
        ({"sample_ids": [1.5] * ROWS}, "sample_ids/0", ""),
        ({"pending": "yes"}, "pending", "boolean"),
        ({"expires_at": IN_AN_HOUR}, "expires_at", "pending"),
        ({"expires_at": HOUR_AGO, "pending": True}, "expires_at", "future"),
        ({"surprise": 1}, "surprise", ""),
    ],
)
def test_422_says_which_part_of_it(
    history: History, changes: dict[str, Any], pointer: str, message: str
) -> None:
    found = refused(history, document(**{"batch_id": "refused", **changes}))
    assert list(found) == [f"/track/{pointer}"], found
    assert message in found[f"/track/{pointer}"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"nonfinite": "propagate"}, "/nonfinite"),
        ({"track": track("refused", pending=True), "ignore_index": None}, "/ignore_index"),
        ({"track": []}, "/track"),
        ({"track": "refused"}, "/track"),
        ({"track": {"pending": True}, "labels": None}, "/labels"),
    ],
)
def test_422_where_it_does_not_fit_the_rest(
    history: History, changes: dict[str, Any], pointer: str
) -> None:
    found = refused(history, {**document("refused"), **changes})
    assert any(each.startswith(pointer) for each in found), found


def test_labels_are_left_out_only_where_they_are_to_come(history: History) -> None:
    request = document("refused")
    del request["labels"]
    assert refused(history, request) == {"/labels": "is required"}
    body = safetensors({"logits": LOGITS}, track=track("refused"))
    sent = history.client.post("/loss/sparse", content=body, headers={"content-type": SAFETENSORS})
    assert checked(sent, 422)["errors"][0]["pointer"] == "/labels"


def test_a_declared_schema_with_another_number_of_classes(history: History) -> None:
    history.post("/loss/sparse", document("declares"))
    request = {
        "logits": [[0.0, 1.0]],
        "labels": [0],
        "track": track("refused", label_schema="animals"),
    }
    found = refused(history, request)
    assert found == {
        "/track/label_schema": "the label schema was declared with 4 classes, the batch has 2: "
        "declare it again, or under another name"
    }


def test_a_comparison_is_refused_as_a_whole(history: History) -> None:
    variants = [{"variant": "sparse"}, {"variant": "focal"}]
    history.post("/loss/focal", document("one of them"))
    problem = history.post(
        "/compare", {**document("one of them"), "variants": variants}, status=409
    )
    assert problem["type"] == "/problems/batch-conflict"
    assert [row["variant"] for row in history.batches("one of them")] == ["focal"]


def test_names_of_a_stream_are_counted_at_its_end(history: History) -> None:
    columns = {"logits": LOGITS, "label": LABELS}
    for field in ("sample_ids", "cluster_ids"):
        body = arrow(list(cut(batch_of(columns), 16)), track=track("refused", **{field: IDS[:-1]}))
        sent = history.client.post("/loss/sparse", content=body, headers={"content-type": ARROW})
        problem = checked(sent, 422)
        assert problem["errors"][0]["pointer"] == f"/track/{field}"
    fitting = arrow(list(cut(batch_of(columns), 16)), track=track("counted", sample_ids=IDS))
    history.send("/loss/sparse", fitting, ARROW)
    assert history.sums("counted").replicated == ROWS


def test_a_stream_has_one_kind_of_names(history: History) -> None:
    batch = batch_of({"logits": LOGITS, "label": LABELS, "sample_id": IDS})
    for names, message in ((IDS, "column sample_id"), (["x" * 257, *IDS[1:]], "256 characters")):
        named = None if names is not IDS else IDS
        batch = batch_of({"logits": LOGITS, "label": LABELS, "sample_id": names})
        body = arrow([batch], track=track("refused", sample_ids=named))
        sent = history.client.post("/loss/sparse", content=body, headers={"content-type": ARROW})
        (fault,) = checked(sent, 422)["errors"]
        assert message in fault["message"]
    assert not history.batches("refused")


def test_413_logits_that_are_too_many_to_wait(history: History) -> None:
    rows = 1000
    many = np.zeros((rows, CLASSES))
    mark = np.full(rows, -100)
    pending = track("refused", pending=True)
    columns = {"logits": many, "label": mark}
    bodies = (
        (json.dumps({"logits": many.tolist(), "track": pending}).encode(), "application/json"),
        (safetensors({"logits": many}, track=pending), SAFETENSORS),
        (safetensors({"labels": mark, "logits": many}, track=pending), SAFETENSORS),
        (arrow(list(cut(batch_of(columns), 100)), track=pending), ARROW),
    )
    for body, kind in bodies:
        for content in (body, iter([body[:1000], body[1000:]])):
            sent = history.client.post(
                "/loss/sparse", content=content, headers={"content-type": kind}
            )
            assert checked(sent, 413)["type"] == "/problems/too-large"
    assert not history.batches("refused")


def test_sums_above_the_largest_number(history: History) -> None:
    logits = np.full((2, CLASSES), 0.0)
    logits[:, 0] = -1e308
    body = safetensors({"labels": np.array([0, 0]), "logits": logits}, track=track("refused"))
    sent = history.client.post("/loss/sparse", content=body, headers={"content-type": SAFETENSORS})
    assert checked(sent, 422)["type"] == "/problems/sums-overflow"
    assert not history.batches("refused")
