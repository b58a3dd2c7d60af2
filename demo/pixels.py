"""The linear classifier as an ONNX model: pixels go in, and the service makes the logits itself."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.metrics import log_loss  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

from demo.running import started
from demo.tables import heading, number, paragraph, table

NAME: Final = "digits"
VERSION: Final = "1"
PIXELS: Final = 64
BRIGHTEST: Final = 16.0
HELD_OUT: Final = 600
TOLERANCE: Final = 1e-5
VARIANTS: Final = ("sparse", "focal", "label-smoothing")
OPSET: Final = 17

Check = tuple[bool, str]


class Pixels:
    """scikit-learn's logistic regression of the digits, and what was held out.

    Attributes:
        model: pixels -> probabilities, as most classifiers are exported.
        pixels: (rows, 64), 0 to 1, float32.
        labels: (rows,).
        probabilities: scikit-learn's own, (rows, 10).
    """

    def __init__(self) -> None:
        pixels, labels = load_digits(return_X_y=True)
        x, self.pixels, y, self.labels = train_test_split(
            (pixels / BRIGHTEST).astype(np.float32), labels, test_size=HELD_OUT, random_state=0
        )
        fitted = LogisticRegression(max_iter=2000).fit(x, y)
        self.model = onnx_of(fitted.coef_, fitted.intercept_)
        logits = self.pixels.astype(np.float64) @ fitted.coef_.T + fitted.intercept_
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        self.probabilities = shares / shares.sum(axis=1, keepdims=True)


def onnx_of(weights: Any, bias: Any) -> ModelProto:  # noqa: ANN401  (arrays of another library)
    """Return softmax(pixels @ weights.T + bias) as an ONNX model; no exporter is needed."""
    constants = {"weights": weights, "bias": bias}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["pixels", "weights", "bias"], ["logits"], transB=1),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        NAME,
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["images", PIXELS])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["images", len(bias)])],
        [
            numpy_helper.from_array(np.asarray(each, np.float32), name)
            for name, each in constants.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def save(model: ModelProto, folder: Path) -> None:
    """Put a model where a service finds it: NAME/VERSION/model.onnx."""
    place = folder / NAME / VERSION
    place.mkdir(parents=True)
    (place / "model.onnx").write_bytes(model.SerializeToString())


def show() -> bool:
    """Ask a service of its own for losses from pixels, print them; return whether checks hold.

    Raises:
        NoService: none starts.
    """
    found = Pixels()
    with tempfile.TemporaryDirectory(prefix="xent-demo-models-") as folder:
        save(found.model, Path(folder))
        with started(XENT_MODELS_DIR=folder) as url:
            answers = dict(_answers(url, found))
    rows = [
        [slug, number(each["loss"]), each["model"]["name"], each["model"]["version"]]
        for slug, each in answers.items()
    ]
    print(heading("From pixels: an ONNX model"))
    print(
        paragraph(
            "scikit-learn's logistic regression as an ONNX file in the service's folder of models. "
            f"{len(found.labels)} held-out images are posted as they are. The file ends in a "
            "softmax, as most do, and every loss applies its own: the service says what it does."
        )
    )
    said = answers["sparse"]["diagnostics"][0]
    print(f"\n{paragraph(said['code'] + ': ' + said['message'])}\n")
    print(table(["variant", "loss", "model", "version"], rows))
    print()
    checks = list(_checks(found, answers))
    for holds, sentence in checks:
        print(f"{'ok  ' if holds else 'FAIL'}  {sentence}")
    return all(holds for holds, _ in checks)


def _answers(url: str, found: Pixels) -> Iterator[tuple[str, Any]]:
    document = {"features": found.pixels.tolist(), "labels": found.labels.tolist()}
    with httpx2.Client(base_url=url, timeout=60, trust_env=False) as http:
        for slug in VARIANTS:
            answer = http.post(f"/models/{NAME}/loss/{slug}", json=document)
            answer.raise_for_status()
            yield slug, answer.json()


def _checks(found: Pixels, answers: dict[str, Any]) -> Iterator[Check]:
    mine = answers["sparse"]["loss"]
    theirs = log_loss(found.labels, found.probabilities)
    yield (
        abs(mine - theirs) < TOLERANCE,
        f"sparse, from pixels: {mine:.7f}; scikit-learn's log_loss: {theirs:.7f}",
    )
    codes = [each["code"] for each in answers["sparse"]["diagnostics"]]
    yield "softmax_left_out" in codes, "the model's softmax was left out, and the answer says so"
