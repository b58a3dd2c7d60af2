"""Bodies that come in pieces: every answer is that of the same batch as a whole."""

import gzip
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load

from tests.service.batches import ARROW, Columns, arrow, batch_of, cut, pieces, safetensors
from tests.service.harness import SAFETENSORS, Running, alike

ROWS, CLASSES = 700, 9
RNG = np.random.default_rng(1)
LOGITS = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32) * 3
INDEX = RNG.integers(CLASSES, size=ROWS)
ONE_HOT = np.eye(CLASSES, dtype=np.int8)[INDEX]
SOFT = np.exp(LOGITS.astype(np.float64))
SOFT /= SOFT.sum(axis=1, keepdims=True)
MANY = RNG.integers(2, size=(ROWS, CLASSES)).astype(bool)
WEIGHTS = RNG.random(ROWS).astype(np.float32)
EVERYTHING = ["per_sample", "per_class", "distribution", "calibration", "hardest", "row_statistics"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that takes bodies as a whole."""
    server = Running(data_dir=tmp_path_factory.mktemp("whole"))
    yield server
    server.stop()


@pytest.fixture(scope="module", params=[(64, 0), (1000, 4000), (1 << 20, 1 << 20)], ids=str)
def streaming(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A server that takes all of them in pieces, and keeps what it must in memory or in a file."""
    piece, spool = request.param
    server = Running(
        data_dir=tmp_path_factory.mktemp("pieces"),
        stream_bytes=0,
        piece_bytes=piece,
        spool_bytes=spool,
    )
    yield server
    server.stop()


def post(server: Running, path: str, body: bytes | Iterator[bytes], kind: str) -> dict[str, Any]:
    found = server.client.post(path, content=body, headers={"content-type": kind})
    assert found.status_code == 200, found.text
    document: dict[str, Any] = found.json()
    return document


def as_safetensors(columns: Columns, **request: Any) -> bytes:  # noqa: ANN401  (a document)
    names = {"label": "labels", "sample_weight": "sample_weights"}
    return safetensors({names.get(key, key): each for key, each in columns.items()}, **request)


CASES: Sequence[tuple[str, Columns, dict[str, Any]]] = [
    ("sparse", {"label": INDEX, "logits": LOGITS}, {"outputs": EVERYTHING}),
    (
        "sparse",
        {"label": INDEX.astype(np.uint8), "sample_weight": WEIGHTS, "logits": LOGITS},
        {"outputs": EVERYTHING, "reduction": "sum", "ignore_index": 3},
    ),
    ("sparse", {"label": INDEX, "logits": LOGITS.astype(np.float16)}, {"outputs": ["gradient"]}),
    (
        "categorical",
        {"label": ONE_HOT, "logits": LOGITS.astype(np.float64)},
        {"outputs": [*EVERYTHING, "gradient"], "reduction": "none"},
    ),
    ("label-smoothing", {"label": SOFT, "logits": LOGITS}, {"outputs": ["per_class", "hardest"]}),
    (
        "focal",
        {"label": MANY, "logits": LOGITS},
        {"outputs": ["per_class", "gradient"], "label_kind": "multi_hot"},
    ),
    (
        "binary",
        {"label": MANY, "sample_weight": WEIGHTS.astype(np.float64), "logits": LOGITS},
        {"outputs": ["per_class", "distribution", "hardest"]},
    ),
    (
        "weighted",
        {"label": INDEX, "logits": LOGITS},
        {"settings": {"class_weights": "balanced", "class_counts": [9] * CLASSES}},
    ),
]
IDS = [f"{slug}-{number}" for number, (slug, _, _) in enumerate(CASES)]


@pytest.mark.parametrize(("slug", "columns", "request_"), CASES, ids=IDS)
def test_safetensors(
    whole: Running, streaming: Running, slug: str, columns: Columns, request_: dict[str, Any]
) -> None:
    path = f"/loss/{slug}"
    expected = post(whole, path, as_safetensors(columns, **request_), SAFETENSORS)
    late = dict(reversed(list(columns.items())))
    for body in (as_safetensors(columns, **request_), as_safetensors(late, **request_)):
        assert alike(post(streaming, path, body, SAFETENSORS), expected)
    unknown_length = pieces(as_safetensors(columns, **request_), 1000)
    assert alike(post(streaming, path, unknown_length, SAFETENSORS), expected)


@pytest.mark.parametrize("rows", [1, 37, ROWS])
@pytest.mark.parametrize(("slug", "columns", "request_"), CASES, ids=IDS)
def test_arrow(
    whole: Running,
    streaming: Running,
    slug: str,
    columns: Columns,
    request_: dict[str, Any],
    rows: int,
) -> None:
    path = f"/loss/{slug}"
    expected = post(whole, path, as_safetensors(columns, **request_), SAFETENSORS)
    body = arrow(list(cut(batch_of(columns), rows)), **request_)
    assert alike(post(streaming, path, body, ARROW), expected)
    assert alike(post(streaming, path, pieces(body, 1000), ARROW), expected)


def test_large_record_batches_are_evaluated_one_by_one(whole: Running, streaming: Running) -> None:
    logits = np.tile(LOGITS, (8, 4))
    labels = np.tile(INDEX, 8)
    names = [f"row {number}" for number in range(len(labels))]
    request: dict[str, Any] = {"outputs": ["per_class", "hardest"], "k": 30}
    columns: Columns = {"label": labels, "logits": logits}
    expected = post(whole, "/loss/sparse", as_safetensors(columns, **request), SAFETENSORS)
    expected["hardest"]["id"] = [names[row] for row in expected["hardest"]["row"]]
    batches = list(cut(batch_of({**columns, "sample_id": names}), 4000))
    batches[1:1] = list(cut(batches.pop(1), 100))
    found = post(streaming, "/loss/sparse", arrow(batches, **request), ARROW)
    assert alike(found, expected)


def test_comparisons(whole: Running, streaming: Running) -> None:
    request: dict[str, Any] = {
        "variants": [{"variant": "sparse"}, {"variant": "focal", "settings": {"gamma": 1.0}}],
        "outputs": ["per_class", "hardest"],
    }
    columns: Columns = {"label": INDEX, "logits": LOGITS}
    expected = post(whole, "/compare", as_safetensors(columns, **request), SAFETENSORS)
    found = post(streaming, "/compare", as_safetensors(columns, **request), SAFETENSORS)
    assert alike(found, expected)
    found = post(streaming, "/compare", arrow([batch_of(columns)], **request), ARROW)
    assert alike(found, expected)


@pytest.mark.parametrize("kind", [SAFETENSORS, ARROW])
def test_gradients_come_as_tensors(whole: Running, streaming: Running, kind: str) -> None:
    columns: Columns = {"label": INDEX, "logits": LOGITS}
    body = as_safetensors(columns, outputs=["gradient"])
    headers = {"content-type": SAFETENSORS, "accept": SAFETENSORS}
    expected = load(whole.client.post("/loss/sparse", content=body, headers=headers).content)
    if kind == ARROW:
        body = arrow(list(cut(batch_of(columns), 50)), outputs=["gradient"])
    headers["content-type"] = kind
    found = load(streaming.client.post("/loss/sparse", content=body, headers=headers).content)
    np.testing.assert_allclose(found["gradient"], expected["gradient"], rtol=1e-6)


@pytest.mark.parametrize("kind", ["balanced", "effective_number"])
def test_class_counts_are_those_of_the_batch(whole: Running, streaming: Running, kind: str) -> None:
    body = safetensors({"labels": INDEX, "logits": LOGITS}, settings={"class_weights": kind})
    expected = post(whole, "/loss/weighted", body, SAFETENSORS)
    assert alike(post(streaming, "/loss/weighted", body, SAFETENSORS), expected)


def test_the_kind_of_labels_is_that_of_all(whole: Running, streaming: Running) -> None:
    # The first rows look one-hot, and focal reads one-hot labels as a softmax.
    labels = np.concatenate([ONE_HOT, MANY.astype(np.int8)])
    logits = np.concatenate([LOGITS, LOGITS])
    body = safetensors({"labels": labels, "logits": logits}, outputs=["per_class"])
    expected = post(whole, "/loss/focal", body, SAFETENSORS)
    assert expected["label_kind"] == "multi_hot"
    assert alike(post(streaming, "/loss/focal", body, SAFETENSORS), expected)


@pytest.mark.parametrize(
    ("tensors", "request_"),
    [
        (
            {
                "labels": INDEX.reshape(70, 10),
                "logits": np.ascontiguousarray(LOGITS.reshape(70, 10, CLASSES).transpose(0, 2, 1)),
            },
            {"outputs": ["gradient", "per_sample"]},
        ),
        ({"labels": INDEX, "logits": np.ascontiguousarray(LOGITS.T)}, {"class_axis": 0}),
        ({"labels": MANY[:, 0], "logits": LOGITS[:, 0]}, {}),
        ({"labels": MANY[:, :2].reshape(-1), "logits": LOGITS[:, None, :2].copy()}, {}),
        (
            {"labels": RNG.integers(700, size=5), "logits": RNG.normal(size=(5, 700))},
            {"outputs": ["per_class"]},
        ),
        ({"labels": np.empty(0, np.int64), "logits": np.empty((0, 4), np.float32)}, {}),
    ],
    ids=["images", "classes first", "one class", "flat labels", "long rows", "no rows"],
)
def test_shapes(
    whole: Running, streaming: Running, tensors: Columns, request_: dict[str, Any]
) -> None:
    path = "/loss/binary" if "labels" in tensors and tensors["labels"].dtype == bool else None
    path = path or "/loss/sparse"
    body = safetensors(tensors, **request_)
    expected = post(whole, path, body, SAFETENSORS)
    assert alike(post(streaming, path, body, SAFETENSORS), expected)
    assert alike(post(streaming, path, pieces(body, 100), SAFETENSORS), expected)


def test_misaligned_logits(whole: Running, streaming: Running) -> None:
    body = safetensors({"labels": INDEX, "logits": LOGITS}, shift=3, outputs=["per_class"])
    expected = post(whole, "/loss/sparse", body, SAFETENSORS)
    assert alike(post(streaming, "/loss/sparse", body, SAFETENSORS), expected)


def test_a_stream_without_rows(streaming: Running) -> None:
    schema = batch_of({"logits": LOGITS, "label": INDEX}).schema
    found = post(streaming, "/loss/sparse", arrow([], schema=schema), ARROW)
    assert (found["loss"], found["undefined"], found["classes"]) == (None, "no_rows", CLASSES)


def test_compressed_streams(whole: Running, streaming: Running) -> None:
    batch = batch_of({"logits": LOGITS, "label": INDEX})
    headers = {"content-type": ARROW, "content-encoding": "gzip"}
    body = gzip.compress(arrow([batch]))
    found = streaming.client.post("/loss/sparse", content=body, headers=headers)
    assert found.status_code == 200, found.text
    expected = post(whole, "/loss/sparse", arrow([batch]), ARROW)
    assert alike(found.json(), expected)


def test_positions_count_from_the_first_row(streaming: Running) -> None:
    labels = INDEX.copy()
    labels[643] = 99
    body = safetensors({"labels": labels, "logits": LOGITS})
    batches = list(cut(batch_of({"logits": LOGITS, "label": labels}), 30))
    for content, kind in ((body, SAFETENSORS), (arrow(batches), ARROW)):
        found = streaming.client.post(
            "/loss/sparse", content=content, headers={"content-type": kind}
        )
        assert found.status_code == 422
        assert "label 99 at position (643,)" in found.json()["detail"]
        assert found.json()["errors"][0]["pointer"] == "/labels/643"


def test_pandas_metadata_is_no_matter(streaming: Running) -> None:
    batch = batch_of({"logits": LOGITS, "label": INDEX})
    schema = batch.schema.with_metadata({b"pandas": json.dumps({"index": []}).encode()})
    assert post(streaming, "/loss/sparse", arrow([batch], schema=schema), ARROW)["rows"] == {
        "total": ROWS,
        "evaluated": ROWS,
        "ignored": 0,
        "nonfinite": 0,
        "infinite": 0,
    }


def test_names_are_no_essays(streaming: Running) -> None:
    columns = {"logits": LOGITS, "label": INDEX, "sample_id": ["x" * 257] * ROWS}
    body = arrow([batch_of(columns)], outputs=["hardest"])
    found = streaming.client.post("/loss/sparse", content=body, headers={"content-type": ARROW})
    assert found.status_code == 422
    assert found.json()["errors"][0]["pointer"] == "/sample_ids"
