"""What is stored of a batch: the core's sums, whatever carried it, and nothing that it was not."""

import gzip
import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import zstandard
from safetensors.torch import load

from service.evaluated import FEW
from service.history.replicates import Units, hash_ids
from service.history.summing import Source, sums_of
from service.history.sums import REPLICATES, SKETCH_SIZE, Sums, from_columns
from service.recording import CONVENTIONS
from tests.service.batches import ARROW, pieces, safetensors
from tests.service.harness import SAFETENSORS
from tests.service.history.tracked import (
    CLASSES,
    IDS,
    LABELS,
    LOGITS,
    NOON_US,
    ROWS,
    WEIGHTS,
    History,
    body_of,
    checked,
    document,
    same,
    track,
)
from xentcore import VARIANTS, Evaluation, Options, Spec

JSON = "application/json"
KINDS = (JSON, SAFETENSORS, ARROW)
EVERYTHING = ["per_sample", "gradient", "per_class", "distribution", "calibration", "hardest"]


@pytest.fixture(scope="module", params=["whole", "pieces"])
def history(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[History]:
    """A server that takes bodies as a whole, and one that takes what it can in pieces."""
    settings = {"stream_bytes": 0, "piece_bytes": 64} if request.param == "pieces" else {}
    found = History.start(tmp_path_factory.mktemp(request.param), **settings)
    yield found
    found.running.stop()


def expected(*, ids: bool = True, weighted: bool = True) -> Sums:
    """What the core records of the batch."""
    evaluation = Evaluation.of(
        torch.from_numpy(LOGITS),
        torch.from_numpy(LABELS),
        [Spec("sparse")],
        sample_weights=torch.from_numpy(WEIGHTS) if weighted else None,
        record="rows" if ids else "sums",
        options=Options(hardest=10),
    )
    units = Units.of(hash_ids(IDS), None) if ids else None
    source = Source("batch", NOON_US, IDS if ids else None, units)
    (sums,) = sums_of(evaluation.recorded(), source)
    return sums


@pytest.mark.parametrize("kind", KINDS)
def test_the_sums_are_the_cores(history: History, kind: str) -> None:
    name = f"sums {kind}"
    answer = history.send("/loss/sparse", body_of(kind, name), kind)
    assert answer["track"] == {
        "status": "created",
        "series": answer["track"]["series"],
        "revision": 1,
        "pending": False,
    }
    found = history.sums(name)
    same(found, expected())
    assert [row["batch_id"] for row in found.hardest] == [name] * 10
    assert [row["time"] for row in found.hardest] == [NOON_US] * 10
    # And by hand, so that both are not wrong together.
    u = LOGITS - LOGITS.max(axis=1, keepdims=True)
    loss = WEIGHTS * (np.log(np.exp(u).sum(axis=1)) - u[np.arange(ROWS), LABELS])
    assert (found.batches, found.rows, found.evaluated, found.replicated) == (1, ROWS, ROWS, ROWS)
    assert found.loss_sum == pytest.approx(loss.sum(), rel=1e-12)
    assert found.weight_sum == pytest.approx(WEIGHTS.sum(), rel=1e-12)
    assert found.loss_square_sum == pytest.approx((loss**2).sum(), rel=1e-12)
    assert found.loss_weight_sum == pytest.approx((loss * WEIGHTS).sum(), rel=1e-12)
    assert found.classes["support"].tolist() == np.bincount(LABELS, minlength=CLASSES).tolist()
    worst = int(loss.argmax())
    assert (found.hardest[0]["row"], found.hardest[0]["id"]) == (worst, IDS[worst])
    assert found.replicates["class"].tolist() == [-1, *range(CLASSES)]
    assert len(found.sketch) == min(ROWS, SKETCH_SIZE)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_names_have_no_replicates(history: History, kind: str) -> None:
    name = f"nameless {kind}"
    history.send("/loss/sparse", body_of(kind, name, ids=False), kind)
    found = history.sums(name)
    same(found, expected(ids=False))
    assert (found.replicated, len(found.replicates), len(found.sketch)) == (0, 0, 0)
    assert [row["id"] for row in found.hardest] == [None] * 10


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_that_of_the_same_batch_untracked(history: History, kind: str) -> None:
    asked: dict[str, Any] = {"outputs": EVERYTHING, "k": 3, "per_class_limit": 2}
    if kind == ARROW:
        asked["outputs"] = EVERYTHING[2:]
    tracked = history.send("/loss/sparse", body_of(kind, f"answers {kind}", **asked), kind)
    untracked = history.send("/loss/sparse", body_of(kind, None, **asked), kind)
    assert tracked.pop("track")["status"] == "created"
    assert tracked == untracked
    assert len(tracked["hardest"]["row"]) == 3


def test_a_long_answer_is_that_of_the_same_batch_untracked(history: History) -> None:
    asked = document("long") | {"outputs": ["gradient"]}
    for name in ("logits", "labels"):
        asked[name] = asked[name] * (1 + FEW // (ROWS * CLASSES))
    tracked = history.send("/loss/sparse", json.dumps(asked).encode(), JSON)
    assert tracked.pop("track")["status"] == "created"
    del asked["track"]
    assert tracked == history.send("/loss/sparse", json.dumps(asked).encode(), JSON)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_in_tensors_tells_it_in_its_document(history: History, kind: str) -> None:
    asked: dict[str, Any] = {"outputs": ["per_class", "gradient"]}
    headers = {"content-type": kind, "accept": SAFETENSORS}
    name = f"tensors {kind}"
    answers = [
        history.client.post("/loss/sparse", content=body_of(kind, each, **asked), headers=headers)
        for each in (name, name, None)
    ]
    created, replayed, untracked = (load(each.content) for each in answers)
    assert created["gradient"].equal(untracked["gradient"])
    assert replayed["gradient"].equal(untracked["gradient"])
    marks = []
    for each in answers:
        (size,) = struct.unpack("<Q", each.content[:8])
        header = json.loads(each.content[8 : 8 + size])
        marks.append(json.loads(header["__metadata__"]["response"]).get("track"))
    assert [mark and mark["status"] for mark in marks] == ["created", "replayed", None]
    assert marks[0]["series"] == marks[1]["series"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_is_the_same_however_it_comes(history: History, kind: str) -> None:
    name = f"ways {kind}"
    body = body_of(kind, name)
    zstd = zstandard.ZstdCompressor().compress(body)
    answers = [
        history.send("/loss/sparse", body, kind),
        history.send("/loss/sparse", gzip.compress(body), kind, content_encoding="gzip"),
        history.send("/loss/sparse", zstd, kind, content_encoding="zstd"),
        history.send("/loss/sparse", pieces(body, 333), kind),  # of no known length
    ]
    statuses = [answer["track"]["status"] for answer in answers]
    assert statuses == ["created", "replayed", "replayed", "replayed"]
    losses = {answer["loss"] for answer in answers}
    assert max(losses) - min(losses) < 1e-12
    assert len(history.batches(name)) == 1
    changed = body_of(kind, name, k=9)
    other = history.client.post("/loss/sparse", content=changed, headers={"content-type": kind})
    assert checked(other, 409)["type"] == "/problems/batch-conflict"


def test_names_may_stand_beside_the_batch_and_numbers_are_their_text(history: History) -> None:
    numbers = list(range(ROWS))
    request = {**document("outer"), "sample_ids": numbers, "outputs": ["hardest"]}
    answer = history.post("/loss/sparse", request)
    history.post("/loss/sparse", document("inner", sample_ids=[str(each) for each in numbers]))
    # Of two lists of names the one that is tracked counts.
    history.post("/loss/sparse", {**document("both", sample_ids=numbers), "sample_ids": IDS})
    outer, inner, both = (history.sums(name) for name in ("outer", "inner", "both"))
    for each in (inner, both):
        assert each.sketch.tolist() == outer.sketch.tolist()
        np.testing.assert_array_equal(each.replicates["loss_sums"], outer.replicates["loss_sums"])
    assert [row["id"] for row in outer.hardest] == answer["hardest"]["id"]
    assert [row["id"] for row in both.hardest] == answer["hardest"]["id"]
    assert [row["id"] for row in inner.hardest] == [str(each) for each in answer["hardest"]["id"]]


def test_clusters_are_what_is_drawn_and_samples_what_is_recognised(history: History) -> None:
    clusters = [row // 6 for row in range(ROWS)]
    for name, ids in (
        ("by sample", {"sample_ids": IDS}),
        ("by cluster", {"cluster_ids": clusters}),
        ("by both", {"sample_ids": IDS, "cluster_ids": clusters}),
    ):
        history.post("/loss/sparse", document(name, **ids))
    sample, cluster, both = (history.sums(f"by {name}") for name in ("sample", "cluster", "both"))
    np.testing.assert_array_equal(both.replicates["loss_sums"], cluster.replicates["loss_sums"])
    assert (both.replicates["loss_sums"] != sample.replicates["loss_sums"]).any()
    assert both.sketch.tolist() == sample.sketch.tolist()
    assert len(cluster.sketch) == ROWS // 6
    ten = cluster.replicates["weight_sums"][0]
    assert ten.shape == (REPLICATES,)
    assert (ten % 6 == 0).all()  # a cluster comes as a whole


def test_rows_that_are_no_use_are_counted_where_they_belong(history: History) -> None:
    logits, labels = LOGITS.copy(), LABELS.copy()
    logits[0, 0], logits[1, LABELS[1]], labels[2] = math.nan, -math.inf, -100
    body = safetensors({"labels": labels, "logits": logits}, track=track("no use", sample_ids=IDS))
    answer = history.send("/loss/sparse", body, SAFETENSORS)
    found = history.sums("no use")
    assert answer["rows"] == {
        "total": ROWS,
        "evaluated": ROWS - 3,
        "ignored": 1,
        "nonfinite": 1,
        "infinite": 1,
    }
    assert {name: getattr(found, name) for name in answer["rows"] if name != "total"} == {
        name: count for name, count in answer["rows"].items() if name != "total"
    }
    assert (found.rows, found.replicated, found.is_finite()) == (ROWS, ROWS - 3, True)
    used = hash_ids(IDS[3:])
    assert found.sketch.tolist() == sorted(used.tolist())
    alone = {"logits": LOGITS[3:].tolist(), "labels": LABELS[3:].tolist()}
    history.post("/loss/sparse", {**alone, "track": track("use", sample_ids=IDS[3:])})
    expected = history.sums("use")
    np.testing.assert_allclose(
        found.replicates["loss_sums"], expected.replicates["loss_sums"], rtol=1e-12
    )


def test_a_comparison_is_a_series_for_each_of_its_variants(history: History) -> None:
    variants = [
        {"variant": "sparse"},
        {"variant": "focal", "settings": {"gamma": 2.0}},
        {"variant": "focal", "settings": {"gamma": 3.0}, "name": "more"},
        {"variant": "binary"},
        {"variant": "sparse", "name": "the first again"},
    ]
    request = {**document("compared", sample_ids=IDS), "variants": variants}
    answer = history.post("/compare", request)
    marks = [result["track"] for result in answer["results"]]
    assert [mark["status"] for mark in marks] == ["created"] * 5
    assert marks[0] == marks[4]  # the same variant under the same settings is the same batch
    assert len({mark["series"] for mark in marks}) == 4
    stored = history.batches("compared")
    assert [row["variant"] for row in stored] == ["binary", "focal", "focal", "sparse"]
    assert [json.loads(row["settings"]).get("gamma") for row in stored] == [None, 2, 3, None]
    assert len({row["digest"] for row in stored}) == 1
    again = history.post("/compare", request)
    assert [each["track"]["status"] for each in again["results"]] == ["replayed"] * 5
    # The same as when each is asked for alone.
    history.post("/loss/sparse", document("alone", sample_ids=IDS))
    found = {row["variant"]: from_columns(row) for row in stored}
    same(found["sparse"], history.sums("alone"))
    assert found["binary"].replicates["class"].tolist() == [-1]
    assert found["sparse"].replicates["class"].tolist() == [-1, *range(CLASSES)]


def test_conventions_that_alter_sums_tell_series_apart(history: History) -> None:
    def series(name: str, **changes: object) -> str:
        mark = history.post("/loss/sparse", {**document(name), **changes})["track"]
        called: str = mark["series"]
        return called

    plain = series("plain")
    assert series("same", normaliser="weights", reduction="sum", outputs=["per_class"]) == plain
    apart = [
        series("rows", normaliser="rows"),
        series("strict", nonfinite="reject"),
        series("logs", input="log_probabilities", logits=np.minimum(LOGITS, 0).tolist()),
        series("weighted", settings={"class_weights": [1, 2, 1, 1]}),
        series("tagged", track=track("tagged", tags={"site": "north"})),
        series("newer", track=track("newer", model_version="2")),
    ]
    assert len({plain, *apart}) == 7
    (row,) = history.batches("rows")
    assert json.loads(row["settings"]) == {
        "class_weights": None,
        "input": "logits",
        "nonfinite": "exclude",
        "normaliser": "rows",
        "probability_floor": None,
    }


def test_no_setting_has_the_name_of_a_convention() -> None:
    names = {*CONVENTIONS, "normaliser"}
    for variant in VARIANTS.values():
        assert names.isdisjoint(variant.settings_type.__dataclass_fields__)


def test_a_label_schema_is_declared_once(history: History) -> None:
    schema = {"name": "declared-once", "classes": ["a", "b", "c", "d"]}
    first = history.post("/loss/sparse", document("first", label_schema=schema))
    later = history.post("/loss/sparse", document("later", label_schema="declared-once"))
    assert later["track"]["series"] == first["track"]["series"]
    turned = {"name": "declared-once", "classes": ["d", "c", "b", "a"]}
    changed = history.post("/loss/sparse", document("changed", label_schema=turned))
    assert changed["track"]["series"] != first["track"]["series"]
    latest = history.post("/loss/sparse", document("latest", label_schema="declared-once"))
    assert latest["track"]["series"] == changed["track"]["series"]
    # What was sent before means what it meant then, also with another number of classes since.
    five = {"name": "declared-once", "classes": list("vwxyz")}
    wide = {"logits": [[0.0] * 5], "labels": [4], "track": track("five", label_schema=five)}
    history.post("/loss/sparse", wide)
    again = history.post("/loss/sparse", document("later", label_schema="declared-once"))
    assert again["track"] == {**later["track"], "status": "replayed"}


@pytest.mark.parametrize(
    ("slug", "request_"),
    [
        ("binary", {"logits": [0.3, -2.0], "labels": [1, 0]}),
        ("binary", {"logits": [[0.3, 1.0], [-2.0, 0.0]], "labels": [[1, 1], [0, 0]]}),
        ("ordinal", {"logits": [[0.3, -1.0], [2.0, 1.0]], "labels": [1, 2]}),
        ("sparse", {"logits": [[[0.3, 1], [2, 1]]], "labels": [[0, 1]]}),
        ("categorical", {"logits": [[0.3, 1.0]], "labels": [[0.25, 0.75]]}),
        ("sparse", {"logits": [], "labels": [], "class_axis": 0}),
    ],
)
def test_batches_of_every_shape(history: History, slug: str, request_: dict[str, object]) -> None:
    logits = np.array(request_["logits"])
    classes = logits.shape[1] if logits.ndim > 1 else 1
    schema = {"name": f"{classes}", "classes": [str(each) for each in range(classes)]}
    name = f"shape {slug} {logits.shape}"
    request = {**request_, "track": track(name, label_schema=schema)}
    answer = history.post(f"/loss/{slug}", request)
    assert history.sums(name).rows == answer["rows"]["total"]
    assert history.sums(name).loss_sum == pytest.approx(answer["reduction"]["sum"], rel=1e-12)
