"""Variants as ONNX models, by the client, by the core in this process, and by the command."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import load_from_string

from tests.service.harness import Running
from tests.xent.rows import LABELS, LOGITS
from xent import AsyncClient, Client, NotFound, Refused, XentError
from xent.command import app
from xent.local import Local

ROOT = Path(__file__).parent.parent.parent
COUNTS = [5, 7, 40, 8]


def computed(content: bytes) -> tuple[float, np.ndarray]:
    """Return the mean and its gradient, as ONNX Runtime computes them."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    mean, gradient = session.run(["mean", "gradient"], {"logits": LOGITS, "labels": LABELS})
    return float(mean), gradient


def test_a_graph_computes_what_the_service_answers(client: Client) -> None:
    settings = {"class_counts": COUNTS, "max_margin": 0.4}
    content = client.onnx("ldam", classes=4, settings=settings)
    asked = client.loss("ldam", LOGITS, LABELS, outputs=["gradient"], **settings)  # type: ignore[call-overload]
    mean, gradient = computed(content)
    assert mean == pytest.approx(asked.loss, rel=1e-6)
    np.testing.assert_allclose(gradient, asked.gradient, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("focal", {"gamma": 1e-7, "alpha": [0.5, 1, 2.0, 1]}),
        ("focal", {"alpha": None, "activation": "softmax"}),
        ("weighted", {"class_weights": "balanced", "class_counts": np.array(COUNTS)}),
        ("sparse", {"class_weights": (1, 2, 3, 4)}),
        ("label-smoothing", {"spread": "others"}),
    ],
)
def test_settings_of_every_kind_arrive(
    variant: str, settings: dict[str, object], client: Client
) -> None:
    content = client.onnx(variant, classes=4, ignore_index=None, settings=settings)
    assert content == Local("cpu").onnx(variant, classes=4, ignore_index=None, settings=settings)
    mean, _ = computed(content)
    asked = client.evaluate(variant, LOGITS, LABELS, settings=settings)
    assert mean == pytest.approx(asked.loss, rel=1e-6)
    said = {each.key: each.value for each in load_from_string(content).metadata_props}
    assert said["ignore_index"] == "null"


def test_as_many_settings_as_there_are_classes_arrive(client: Client) -> None:
    weights = np.random.default_rng(3).uniform(0.5, 2, size=1500)
    content = client.onnx("sparse", classes=1500, settings={"class_weights": weights})
    assert content == Local("cpu").onnx(
        "sparse", classes=1500, settings={"class_weights": weights.tolist()}
    )


@pytest.mark.parametrize(
    ("variant", "given", "kind", "words", "pointers"),
    [
        ("focl", {"classes": 4}, NotFound, "did you mean 'focal'", None),
        ("focal", {"classes": 0}, Refused, "greater than or equal to 1", ("/classes",)),
        ("focal", {"classes": 4, "settings": {"gama": 1}}, Refused, "no parameter", ("/gama",)),
        ("focal", {"classes": 4, "label_kind": "hot"}, Refused, "multi_hot", ("/label_kind",)),
        ("ldam", {"classes": 4}, Refused, "give class_counts", ("/class_counts",)),
        (
            "ldam",
            {"classes": 4, "settings": {"class_counts": [1, 2]}},
            Refused,
            "2 entries for 4 classes",
            ("/class_counts",),
        ),
    ],
)
def test_what_is_refused_there_is_refused_here(
    variant: str,
    given: dict[str, object],
    kind: type[XentError],
    words: str,
    pointers: tuple[str, ...] | None,
    client: Client,
) -> None:
    for each in (client, Local("cpu")):
        with pytest.raises(kind, match=words) as raised:
            each.onnx(variant, **given)  # type: ignore[arg-type]
        if pointers is not None:
            assert raised.value.pointers == pointers  # type: ignore[attr-defined]


@pytest.mark.anyio
async def test_whoever_awaits_gets_the_same(url: str, client: Client) -> None:
    async with AsyncClient(url) as other:
        content = await other.onnx("poly1", classes=4, label_kind="one_hot")
    assert content == client.onnx("poly1", classes=4, label_kind="one_hot")


def test_the_command_writes_it(
    service: Running,
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XENT_URL", f"http://127.0.0.1:{service.port}")
    expected = client.onnx("focal", classes=4, settings={"gamma": 1.5, "alpha": [1, 2, 3, 4]})
    asked = ["export-onnx", "focal", "--classes", "4", "--gamma", "1.5", "--alpha=1,2,3,4"]
    assert app.run(asked) == 0
    assert capsys.readouterr().err == f"focal.onnx: {len(expected):,} bytes\n"
    assert (tmp_path / "focal.onnx").read_bytes() == expected
    monkeypatch.setenv("XENT_URL", "http://127.0.0.1:1")
    assert app.run([*asked, "--local", "-o", "here.onnx"]) == 0
    assert (tmp_path / "here.onnx").read_bytes() == expected
    labels = ["--label-kind", "one_hot", "--ignore-index", "none"]
    assert app.run([*asked, *labels, "--local", "-o", "hot.onnx"]) == 0
    model = load_from_string((tmp_path / "hot.onnx").read_bytes())
    said = {each.key: each.value for each in model.metadata_props}
    assert (said["label_kind"], said["ignore_index"]) == ("one_hot", "null")


def test_the_command_may_write_it_anywhere(url: str, client: Client) -> None:
    command = [sys.executable, "-m", "xent", "export-onnx", "sparse", "--classes", "4"]
    done = subprocess.run(
        [*command, "-o", "-", "--url", url], capture_output=True, check=True, cwd=ROOT
    )
    assert (done.stdout, done.stderr) == (client.onnx("sparse", classes=4), b"")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["focal"], 2, "--classes"),
        (["focal", "batch.npz", "--classes", "4"], 2, "batch.npz: a graph is of a variant"),
        (["focal", "--classes", "4", "--gamm", "2"], 2, "did you mean --gamma?"),
        (["focal", "--classes", "4", "--ignore-index", "x"], 2, "a whole number, or none"),
        (["focal", "--classes", "4", "-o", "no/where.onnx"], 2, "no/where.onnx: No such file"),
        (["focl", "--classes", "4"], 4, "did you mean 'focal'"),
        (["ldam", "--classes", "4"], 4, "give class_counts"),
    ],
)
def test_the_command_says_what_is_wrong(
    words: list[str], code: int, said: str, url: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "xent", "export-onnx", *words, "--url", url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
