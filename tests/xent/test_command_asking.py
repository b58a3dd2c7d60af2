"""The command on what a service keeps: alerts, late labels, models."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import csv, parquet
from safetensors.torch import save_file

from service.history.database import Database, sqlite_url
from tests.service.harness import Running
from tests.service.history.histories import insert_batches
from tests.service.history.test_alerts import FROM, batches
from tests.service.models.nets import FEATURES, linear, node, save
from tests.service.models.nets import LABELS as EYES
from tests.service.models.nets import LOGITS as EYES_LOGITS
from tests.xent.conftest import Run
from tests.xent.rows import LABELS, LOGITS
from xent import Client, Track

_HELD = io.BytesIO()
np.save(_HELD, LABELS)
ONE = _HELD.getvalue()
IDS = [f"row {at}" for at in range(60)]


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service with an hour of history, of which the last third went badly, and with models."""
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("models")
    database = Database(sqlite_url(data))
    database.migrate()
    insert_batches(database, [*batches(0, 40), *batches(40, 60, shift=2)])
    database.close()
    save(folder, linear(node("Softmax", "z", "y")), "eyes")
    save(folder, b"nonsense", "broken")
    server = Running(data_dir=data, models_dir=folder)
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client
    server.stop()


@pytest.fixture
def url(keeping: Client) -> str:
    """Where it is."""
    return keeping.configuration.url


def test_alerts_are_added_told_and_removed(run: Run) -> None:
    code, out, err = run("alerts", "p")
    assert (code, err) == (0, "")
    assert "nothing is watched" in out
    rule = ("--since", FROM, "--step", "1m", "--model", "m", "--model-version", "v1")
    code, out, _ = run("alerts", "p", "--add", "loss", "--above", "1.15", *rule)
    assert code == 0
    assert "firing" in out
    assert run("alerts", "p", "--fail-firing")[0] == 5
    below = ("--below", "0.1", "--metric", "recall", "--class", "ant", "--tag", "region=eu")
    more = ("--alpha", "0.01", "--min-rows", "100", "--shift", "0.1", "--variant", "sparse")
    assert run("alerts", "p", "--add", "recall", *below, *more)[0] == 0
    late = ("--reference-since", FROM, "--reference-version", "v1", "--falls")
    assert run("alerts", "p", "--add", "better", *late)[0] == 0
    code, out, _ = run("alerts", "p", "--json")
    better, loss, recall = sorted(json.loads(out), key=lambda each: each["rule"]["name"])
    assert code == 0
    assert loss["state"] == "firing"
    assert recall["rule"]["direction"] == "below"
    assert recall["rule"]["selection"]["tags"] == {"region": ["eu"]}
    assert (recall["rule"]["kind"], recall["rule"]["min_rows"]) == ("cusum", 100)
    assert (better["rule"]["kind"], better["rule"]["direction"]) == ("reference", "below")
    for name in ("loss", "better", "recall"):
        assert run("alerts", "p", "--remove", name, "--fail-firing")[0] in (0, 5)
    assert run("alerts", "p", "--fail-firing")[0] == 0
    code, _, err = run("alerts", "p", "--remove", "loss")
    assert code == 4
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["p", "--add", "a", "--above", "1", "--below", "2"], 2, "are two alerts"),
        (["p", "--add", "a"], 4, "needs threshold"),
        (["p", "--add", "a", "--above", "1", "--metric", "loss.max"], 4, "cannot be watched"),
        (["nobody"], 4, "project"),
        (["p", "--fail"], 2, "--fail"),
    ],
)
def test_what_is_wrong_with_alerts_is_one_line(
    words: list[str], code: int, said: str, run: Run
) -> None:
    found, _, err = run("alerts", *words)
    assert found == code
    assert said in err
    assert err.count("\n") == 1


def written(kind: str, folder: Path) -> Path:
    """Write labels, and the names of their rows where the format has them; return the file."""
    path = folder / f"late.{kind}"
    table = pa.table({"sample_id": IDS[::-1], "label": LABELS[::-1], "more": LABELS})
    if kind == "npy":
        np.save(path, LABELS)
    elif kind == "npz":
        np.savez(path, labels=LABELS[::-1], sample_ids=IDS[::-1])
    elif kind == "safetensors":
        save_file({"labels": torch.from_numpy(LABELS)}, path)
    elif kind == "parquet":
        parquet.write_table(table, path, row_group_size=7)
    elif kind == "csv":
        lines = [f"{name},{label}" for name, label in zip(IDS, LABELS, strict=True)]
        path.write_text("\n".join(["sample_id,y", *lines[::-1]]))
    else:
        make = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with make(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=9)
    return path


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "parquet", "arrow", "arrows", "csv"])
def test_labels_come_late(kind: str, keeping: Client, run: Run, tmp_path: Path) -> None:
    names = list("abcd")
    track = Track("late", "net", kind, "letters", names, kind, sample_ids=IDS, pending=True)
    keeping.loss("sparse", LOGITS, track=track)
    of: tuple[str, ...] = ("--project", "late", "--model", "net", "--model-version", kind)
    code, out, err = run("labels", written(kind, tmp_path), *of, "--batch-id", kind, "--json")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)
    assert row["status"] == "completed"
    assert row["loss"] == pytest.approx(keeping.loss("sparse", LOGITS, LABELS).loss, rel=1e-6)
    code, out, _ = run("labels", written(kind, tmp_path), *of, "--batch-id", kind)
    assert code == 0
    assert "unchanged" in out
    code, _, err = run("labels", written(kind, tmp_path), *of, "--batch-id", "other")
    assert code == 4
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"1", "not one of .npy"),
        ("a.csv", b"", "has no label"),
        ("a.csv", b"a,b\n1,2\n", "has no label, but a, b: name it with --label"),
        ("a.csv", b"label\nx\n", "a.csv, lines 2 to 2"),
        ("a.npz", b"PK\x03\x04 nonsense", "a.npz"),
        ("a.npz", b"", "a.npz"),
        ("a.npz", ONE, "a.npz holds one array: call it .npy"),
        ("a.npy", b"", "a.npy"),
        ("a.parquet", b"nonsense", "a.parquet"),
        ("a.arrow", b"nonsense", "a.arrow"),
        ("a.safetensors", b"1", "shorter than its header"),
        ("missing.npy", None, "missing.npy: No such file"),
    ],
)
def test_files_without_labels_are_named(
    name: str, content: bytes | None, said: str, run: Run, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    of = ("--project", "p", "--model", "m", "--model-version", "1", "--batch-id", "b")
    code, _, err = run("labels", name, *of)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_an_empty_file_of_labels_is_refused_by_the_service(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("label\n")
    of = ("--project", "p", "--model", "m", "--model-version", "1", "--batch-id", "b")
    assert run("labels", "a.csv", *of)[0] == 4


def holding(kind: str, folder: Path) -> list[Path]:
    """Write features and labels, weights and names where the format has them; return the files."""
    path = folder / f"features.{kind}"
    weights = np.linspace(0.5, 2, len(FEATURES))
    ids = [f"row {at}" for at in range(len(FEATURES))]
    rest = {"target": EYES, "sample_weight": weights, "sample_id": ids}
    wide = pa.table({**dict(zip("abcde", FEATURES.T, strict=True)), **rest, "words": ids})
    if kind == "npy":
        np.save(path, FEATURES)
        np.save(folder / "labels.npy", EYES)
        return [path, folder / "labels.npy"]
    if kind == "npz":
        np.savez(path, features=FEATURES, y=EYES, sample_weights=weights, sample_ids=ids)
    elif kind == "safetensors":
        arrays = {"features": FEATURES, "labels": EYES, "sample_weights": weights}
        save_file({name: torch.from_numpy(each) for name, each in arrays.items()}, path)
    elif kind == "parquet":
        parquet.write_table(wide, path, row_group_size=7)
    elif kind == "csv":
        csv.write_csv(wide.drop_columns(["words"]), path)
    else:
        column = pa.FixedSizeListArray.from_arrays(pa.array(FEATURES.reshape(-1)), 5)
        table = pa.table({"features": column, **rest})
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=9)
    return [path]


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "parquet", "arrow", "csv"])
def test_features_go_through_a_model(kind: str, keeping: Client, run: Run, tmp_path: Path) -> None:
    files = holding(kind, tmp_path)
    weights = None if kind == "npy" else np.linspace(0.5, 2, len(FEATURES))
    expected = keeping.loss("focal", EYES_LOGITS, EYES, sample_weights=weights, gamma=1.5)
    asked = ("--through", "eyes", "--gamma", "1.5", "--hardest", 1, "--json")
    code, out, err = run("loss", "focal", *files, *asked)
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert found["model"] == {"name": "eyes", "version": "1"}
    named = kind not in ("npy", "safetensors")
    (row,) = found["hardest"]["row"]
    assert found["hardest"].get("id") == ([f"row {row}"] if named else None)


def test_variants_are_compared_through_a_version_of_a_model(
    keeping: Client, run: Run, tmp_path: Path
) -> None:
    of = (*holding("npz", tmp_path), "--through", "eyes/1", "-v", "sparse")
    code, out, err = run("compare", *of, "--json")
    (found,) = json.loads(out)["results"]
    weights = np.linspace(0.5, 2, len(FEATURES))
    expected = keeping.loss("sparse", EYES_LOGITS, EYES, sample_weights=weights)
    assert (code, err) == (0, "")
    assert found["loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert run("compare", *of)[0] == 0


def test_what_goes_through_a_model_is_tracked_as_its(
    keeping: Client, run: Run, tmp_path: Path
) -> None:
    of = (*holding("npy", tmp_path), "--through", "eyes", "--project", "seen")
    code, _, err = run("loss", "sparse", *of, "--model-version", "1")
    assert code == 2
    assert err == "xent: tracking needs --label-schema\n"
    names = ("--label-schema", "letters", "--class-names", "a,b,c,d")
    assert run("loss", "sparse", *of, *names)[0] == 0
    (series,) = keeping.project("seen").series().table.rows()
    assert (series["model"], series["model_version"]) == ("eyes", "1")
    code, _, err = run("loss", "sparse", *of, *names, "--model", "others")
    assert code == 4
    assert "leave it out" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["FILE", "--through", "eyes", "--local"], 2, "--local asks no service"),
        (["FILE", "--through", "eyes/9"], 4, "eyes has no such version; known: 1"),
        (["FILE", "--through", "nobody"], 4, "no such model"),
        (["FILE", "--through", "broken"], 4, "broken"),
        (["FILE", "--through", "eyes", "--label", "no"], 2, "has no no, but features"),
        (["FILE", "FILE", "FILE", "--through", "eyes"], 2, "one file, or two"),
        (["a.txt", "--through", "eyes"], 2, "a.txt: not one of"),
        (["missing.npz", "--through", "eyes"], 2, "missing.npz: No such file"),
        (["logits.npz", "--through", "eyes"], 2, "logits.npz has no features, but logits"),
        (["empty.csv", "--through", "eyes"], 2, "empty.csv has no features, but labels"),
        (["words.csv", "--through", "eyes"], 2, "words.csv, lines 2 to 2: could not convert"),
    ],
)
def test_what_is_wrong_with_features_is_one_line(
    words: list[str], code: int, said: str, run: Run, tmp_path: Path
) -> None:
    (file,) = holding("npz", tmp_path)
    np.savez(tmp_path / "logits.npz", logits=LOGITS, labels=LABELS)
    (tmp_path / "empty.csv").write_text("label\n1\n")
    (tmp_path / "words.csv").write_text("a,label\nx,1\n")
    found, _, err = run("loss", "sparse", *(file if each == "FILE" else each for each in words))
    assert found == code
    assert said in err
    assert err.count("\n") == 1


def test_models_are_listed(run: Run) -> None:
    code, out, err = run("models")
    assert (code, err) == (0, "")
    for part in ("eyes", "float32[rows, 5]", "softmax", "broken"):
        assert part in out
    listed: list[dict[str, Any]] = json.loads(run("models", "--json")[1])
    assert [each["name"] for each in listed] == ["broken", "eyes"]
    assert json.loads(run("models", "eyes", "--json")[1]) == listed[1:]
    assert run("models", "nobody")[0] == 4


def test_a_service_without_models_says_where_they_would_be(run: Run, service: Running) -> None:
    code, out, _ = run("models", "--url", f"http://127.0.0.1:{service.port}")
    assert code == 0
    assert "XENT_MODELS_DIR" in out
