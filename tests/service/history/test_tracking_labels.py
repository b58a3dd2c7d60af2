"""Labels that come later: the sums are then those of the batch with its labels, as far as known."""

import gzip
import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from service.history import times
from service.history.sums import from_columns
from tests.service.batches import ARROW, arrow, batch_of, cut, safetensors
from tests.service.conftest import Start
from tests.service.harness import PATIENCE_S, SAFETENSORS, until
from tests.service.history.tracked import (
    CLASSES,
    IDS,
    LABELS,
    LOGITS,
    ROWS,
    WEIGHTS,
    History,
    checked,
    document,
    same,
    track,
)
from xentcore import VARIANTS

JSON = "application/json"
ONE_HOT = np.eye(CLASSES, dtype=np.int64)[LABELS]
MANY = (LOGITS > 1).astype(np.int64)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    found = History.start(tmp_path_factory.mktemp("labels"), workers=2)
    yield found
    found.running.stop()


def labels_of(batch_id: str, labels: Any, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the request that sends labels."""
    names = {name: track(batch_id)[name] for name in ("project", "model", "model_version")}
    listed = labels.tolist() if isinstance(labels, np.ndarray) else labels
    return {**names, "batch_id": batch_id, "labels": listed, **more}


def post_pending(
    history: History, batch_id: str, kind: str = JSON, path: str = "/loss/sparse"
) -> dict[str, Any]:
    """Send a batch without labels; as Arrow, with a column that marks all rows."""
    tracked = track(batch_id, pending=True, sample_ids=None if kind == ARROW else IDS)
    request: dict[str, Any] = {"track": tracked}
    if kind == ARROW:
        columns = {"logits": LOGITS, "label": np.full(ROWS, -100), "sample_weight": WEIGHTS}
        batch = batch_of({**columns, "sample_id": IDS})
        return history.send(path, arrow(list(cut(batch, 16)), **request), kind)
    numbers = {"sample_weights": WEIGHTS, "logits": LOGITS}
    if kind == SAFETENSORS:
        return history.send(path, safetensors(numbers, **request), kind)
    return history.post(path, {**{k: v.tolist() for k, v in numbers.items()}, **request})


def labelled(history: History, batch_id: str, labels: Any = LABELS) -> None:  # noqa: ANN401
    """Send the same batch with its labels."""
    request = {
        "logits": LOGITS.tolist(),
        "labels": labels.tolist(),
        "sample_weights": WEIGHTS.tolist(),
        "track": track(batch_id, sample_ids=IDS),
    }
    history.post("/loss/sparse", request)


@pytest.fixture(scope="module")
def whole(history: History) -> str:
    """The name of a batch that came with its labels."""
    labelled(history, "with its labels")
    return "with its labels"


@pytest.mark.parametrize("kind", [JSON, SAFETENSORS, ARROW])
def test_labels_of_all_rows(history: History, whole: str, kind: str) -> None:
    name = f"all {kind}"
    answer = post_pending(history, name, kind)
    assert (answer["loss"], answer["undefined"]) == (None, "no_rows")
    assert answer["rows"]["ignored"] == answer["rows"]["total"] == ROWS
    assert answer["track"]["pending"] is True
    before = history.sums(name)
    assert (before.rows, before.ignored, before.evaluated, before.replicated) == (ROWS, ROWS, 0, 0)

    (batch,) = history.post("/labels", labels_of(name, LABELS))["batches"]
    found, expected = history.sums(name), history.sums(whole)
    same(found, expected)
    assert batch == {
        "series": answer["track"]["series"],
        "variant": "sparse",
        "status": "completed",
        "revision": 2,
        "pending": False,
        "rows": {"total": ROWS, "labelled": ROWS},
        "loss": pytest.approx(expected.loss_sum / expected.weight_sum, rel=1e-12),
    }
    assert [row["batch_id"] for row in found.hardest] == [name] * 10
    again = post_pending(history, name, kind)  # the same logits, sent again
    assert again["track"] == {**answer["track"], "status": "replayed", "revision": 2} | {
        "pending": False
    }


def test_labels_again_and_other_labels(history: History, whole: str) -> None:
    post_pending(history, "corrected")
    turned = (LABELS + 1) % CLASSES
    statuses = []
    for labels in (turned, turned, LABELS, LABELS):
        (batch,) = history.post("/labels", labels_of("corrected", labels))["batches"]
        statuses.append((batch["status"], batch["revision"]))
    assert statuses == [("completed", 2), ("unchanged", 2), ("corrected", 3), ("unchanged", 3)]
    same(history.sums("corrected"), history.sums(whole))


@pytest.mark.parametrize("kind", [JSON, SAFETENSORS, ARROW])
def test_labels_of_some_rows_by_their_names(history: History, whole: str, kind: str) -> None:
    name = f"some {kind}"
    post_pending(history, name, kind)
    order = np.random.default_rng(0).permutation(ROWS)
    known = np.full(ROWS, -100)
    for part, (status, pending) in zip(
        (order[:7], order[7:50], order[40:]),
        (("corrected", True), ("corrected", True), ("completed", False)),
        strict=True,
    ):
        request = labels_of(name, LABELS[part], sample_ids=[IDS[row] for row in part])
        (batch,) = history.post("/labels", request)["batches"]
        known[part] = LABELS[part]
        assert (batch["status"], batch["pending"]) == (status, pending)
        assert batch["rows"] == {"total": ROWS, "labelled": int((known >= 0).sum())}
        labelled(history, f"{name} {batch['revision']}", known)
        same(history.sums(name), history.sums(f"{name} {batch['revision']}"))
    same(history.sums(name), history.sums(whole))


def test_labels_that_came_with_the_logits_stay(history: History, whole: str) -> None:
    known = np.where(np.arange(ROWS) < 40, LABELS, -100)
    request = {
        "logits": LOGITS.tolist(),
        "labels": known.tolist(),
        "sample_weights": WEIGHTS.tolist(),
        "track": track("begun", pending=True, sample_ids=IDS),
    }
    assert history.post("/loss/sparse", request)["rows"]["evaluated"] == 40
    later = labels_of("begun", LABELS[40:], sample_ids=IDS[40:])
    (batch,) = history.post("/labels", later)["batches"]
    assert (batch["status"], batch["rows"]["labelled"]) == ("completed", ROWS)
    same(history.sums("begun"), history.sums(whole))


def test_labels_as_tensors_and_compressed(history: History, whole: str) -> None:
    post_pending(history, "tensors")
    request = labels_of("tensors", LABELS)
    del request["labels"]
    statuses = []
    for labels in (LABELS.astype(np.uint8), LABELS.astype(np.int32)):
        body = gzip.compress(safetensors({"labels": labels}, **request))
        answer = history.send("/labels", body, SAFETENSORS, content_encoding="gzip")
        statuses += [each["status"] for each in answer["batches"]]
    assert statuses == ["completed", "unchanged"]  # of another width, but the same
    same(history.sums("tensors"), history.sums(whole))


def test_labels_of_a_comparison_are_those_of_all_its_variants(history: History) -> None:
    variants = [
        {"variant": "sparse"},
        {"variant": "focal", "settings": {"gamma": 3.0}},
        {"variant": "binary"},
    ]
    request = {"logits": LOGITS.tolist(), "variants": variants, "outputs": ["gradient"]}
    tracked = track("compared", pending=True, sample_ids=IDS)
    history.post("/compare", {**request, "track": tracked})
    only = history.post("/labels", labels_of("compared", LABELS, variant="focal"))["batches"]
    assert [(each["variant"], each["status"]) for each in only] == [("focal", "completed")]
    every = history.post("/labels", labels_of("compared", LABELS))["batches"]
    assert [(each["variant"], each["status"]) for each in every] == [
        ("binary", "completed"),
        ("focal", "unchanged"),
        ("sparse", "completed"),
    ]
    history.post(
        "/compare",
        {**request, "labels": LABELS.tolist(), "track": track("at once", sample_ids=IDS)},
    )
    pairs = zip(history.batches("compared"), history.batches("at once"), strict=True)
    for found, expected in pairs:
        assert found["series_id"] == expected["series_id"]
        same(from_columns(found), from_columns(expected))


@pytest.mark.parametrize("slug", sorted(VARIANTS))
def test_every_variant_may_wait(history: History, slug: str) -> None:
    example: Mapping[str, Any] = VARIANTS[slug].example
    logits = np.array(example["logits"])
    classes = [str(each) for each in range(logits.shape[1] if logits.ndim > 1 else 1)]
    schema = {"name": f"{slug}-example", "classes": classes}
    tracked = track(f"waits {slug}", pending=True, label_schema=schema)
    settings: dict[str, Any] = {"settings": dict(example["settings"])}
    if slug == "focal":
        settings["label_kind"] = VARIANTS[slug].label_kinds[0]
    history.post(f"/loss/{slug}", {"logits": logits.tolist(), **settings, "track": tracked})
    history.post("/labels", labels_of(f"waits {slug}", example["labels"]))
    now = {**tracked, "batch_id": f"now {slug}", "pending": False}
    history.post(f"/loss/{slug}", {**example, **settings, "track": now})
    same(history.sums(f"waits {slug}"), history.sums(f"now {slug}"))


@pytest.mark.parametrize(
    ("slug", "labels"),
    [
        ("categorical", ONE_HOT),
        ("categorical", torch.from_numpy(LOGITS).softmax(dim=1).numpy()),
        ("binary", MANY),
        ("binary", LABELS),
        ("sparse", LABELS.astype(float)),
    ],
)
def test_labels_of_every_kind_come_in_parts(history: History, slug: str, labels: Any) -> None:  # noqa: ANN401
    name = f"{slug} {labels.dtype} {labels.ndim} {labels.sum():.0f}"
    tracked = track(name, pending=True, sample_ids=IDS)
    history.post(f"/loss/{slug}", {"logits": LOGITS.tolist(), "track": tracked})
    statuses = []
    for part in (slice(0, 20), slice(20, ROWS)):
        request = labels_of(name, labels[part], sample_ids=IDS[part])
        statuses += [each["status"] for each in history.post("/labels", request)["batches"]]
    assert statuses == ["corrected", "completed"]
    tracked = track(f"{name} at once", sample_ids=IDS)
    request = {"logits": LOGITS.tolist(), "labels": labels.tolist(), "track": tracked}
    history.post(f"/loss/{slug}", request)
    same(history.sums(name), history.sums(f"{name} at once"))


def test_one_class_and_pixels(history: History) -> None:
    one = {"name": "one", "classes": ["yes"]}
    request = {"logits": [0.5, -1.0, 2.0]}
    tracked = track("one class", pending=True, label_schema=one, sample_ids=[1, 2, 3])
    history.post("/loss/binary", {**request, "track": tracked})
    later = labels_of("one class", [1, 0], sample_ids=["3", "1"])
    (batch,) = history.post("/labels", later)["batches"]
    assert batch["rows"] == {"total": 3, "labelled": 2}
    loss = np.log1p(np.exp(-2.0)) + np.log1p(np.exp(0.5))
    assert history.sums("one class").loss_sum == pytest.approx(loss, rel=1e-6)

    pixels = np.random.default_rng(0).normal(size=(2, CLASSES, 3))
    names = [f"pixel {n}" for n in range(6)]
    tracked = track("pixels", pending=True, sample_ids=names)
    history.post("/loss/sparse", {"logits": pixels.tolist(), "track": tracked})
    some = labels_of("pixels", [1], sample_ids=names[:1])
    problem = history.post("/labels", some, 422)
    assert "send all labels" in problem["detail"]
    (batch,) = history.post("/labels", labels_of("pixels", [[0, 1, 2], [3, 0, 1]]))["batches"]
    assert batch["rows"]["labelled"] == 6


def test_labels_that_come_at_the_same_time_are_all_there(history: History, whole: str) -> None:
    for attempt in range(3):
        name = f"at once {attempt}"
        post_pending(history, name)
        ready = threading.Barrier(4)

        def send(first: int, name: str = name, ready: threading.Barrier = ready) -> int:
            rows = slice(first, ROWS, 4)
            request = labels_of(name, LABELS[rows], sample_ids=IDS[rows])
            ready.wait(PATIENCE_S)
            return history.client.post("/labels", json=request).status_code

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(send, range(4))) == [200] * 4
        same(history.sums(name), history.sums(whole))
        (row,) = history.batches(name)
        assert (row["revision"], row["pending"]) == (5, False)


@pytest.mark.parametrize(
    ("changes", "pointer", "message"),
    [
        ({"labels": [9] * ROWS}, "/labels/0", "9"),
        ({"labels": [0] * (ROWS - 1)}, "/labels", "shape"),
        ({"labels": ONE_HOT.tolist()}, "/labels", ""),
        ({"labels": [0, 1], "sample_ids": IDS[:3]}, "/labels", "3 sample_ids"),
        ({"labels": [0, 1], "sample_ids": ["row-0", "nobody"]}, "/sample_ids/1", "no row"),
        ({"labels": [0, 1], "sample_ids": ["row-0", "row-0"]}, "/sample_ids", "twice"),
        ({"labels": [0, 9], "sample_ids": ["row-3", "row-1"]}, "/labels/1", "9"),
        ({"labels": "all"}, "/labels", "lists"),
        ({"batch_id": ""}, "/batch_id", "at least 1"),
        ({"surprise": 1}, "/surprise", "unknown"),
    ],
)
def test_422_labels_that_do_not_fit(
    history: History, changes: dict[str, Any], pointer: str, message: str
) -> None:
    if not history.batches("unfit"):
        post_pending(history, "unfit")
    before = history.batches("unfit")
    problem = history.post("/labels", {**labels_of("unfit", LABELS), **changes}, 422)
    assert message in problem["detail"]
    assert [fault["pointer"] for fault in problem["errors"]][:1] == [pointer]
    assert history.batches("unfit") == before


def test_422_labels_of_rows_without_names_or_of_another_shape(history: History) -> None:
    tracked = track("no names", pending=True)
    history.post("/loss/focal", {"logits": LOGITS.tolist(), "track": tracked})
    request = labels_of("no names", [0], sample_ids=["row-0"])
    assert "without sample_ids" in history.post("/labels", request, 422)["detail"]
    # Of two families the batch was recorded as one of the first; these are labels of the other.
    problem = history.post("/labels", labels_of("no names", MANY), 422)
    assert "label_kind" in problem["detail"]
    (batch,) = history.post("/labels", labels_of("no names", LABELS))["batches"]
    assert batch["status"] == "completed"

    post_pending(history, "mixed")
    history.post("/labels", labels_of("mixed", [0], sample_ids=["row-0"]))
    request = labels_of("mixed", [[1, 0, 0, 0]], sample_ids=["row-1"])
    assert "shape" in history.post("/labels", request, 422)["detail"]


def test_404_410_labels_of_nothing_that_waits(history: History) -> None:
    history.post("/loss/sparse", document("never pending"))
    for name, changes, status, slug in (
        ("nobody's", {}, 404, "batch-unknown"),
        ("never pending", {}, 410, "labels-late"),
        ("never pending", {"variant": "focal"}, 404, "batch-unknown"),
        ("never pending", {"project": "elsewhere"}, 404, "batch-unknown"),
    ):
        problem = history.post("/labels", labels_of(name, LABELS, **changes), status)
        assert problem["type"] == f"/problems/{slug}"

    for wait_s in (1, 5, 30):  # longer where that is over before the batch is recorded
        soon = times.now() + wait_s * times.SECOND
        tracked = track("expired", pending=True, expires_at=times.text(soon))
        request = {"logits": LOGITS.tolist(), "track": tracked}
        if history.client.post("/loss/sparse", json=request).status_code == 200:
            break
    until(lambda: times.now() > soon)
    problem = history.post("/labels", labels_of("expired", LABELS), 410)
    assert problem["type"] == "/problems/labels-late"


def test_other_requests_than_labels(history: History) -> None:
    body = json.dumps(labels_of("x", LABELS)).encode()
    for kind, sent, status in (
        (ARROW, body, 415),
        (JSON, body[:-1], 400),
        (JSON, b"[]", 422),
        (SAFETENSORS, b"1234", 400),
        (SAFETENSORS, safetensors({"logits": LOGITS}), 422),
        (SAFETENSORS, safetensors({}), 422),
        (SAFETENSORS, safetensors({"labels": LABELS})[:-1], 400),
    ):
        answer = history.client.post("/labels", content=sent, headers={"content-type": kind})
        checked(answer, status)
    nothing = history.post("/labels", {"batch_id": "x"}, 422)
    assert nothing["errors"][0]["pointer"] == "/labels"


def test_labels_need_the_key_that_evaluates(start: Start) -> None:
    server = start(api_keys="reader:metrics,writer:evaluate")
    request = labels_of("x", LABELS)
    for key, status in ((None, 401), ("reader", 403), ("writer", 404)):
        headers = {"authorization": f"Bearer {key}"} if key else {}
        assert server.client.post("/labels", json=request, headers=headers).status_code == status
