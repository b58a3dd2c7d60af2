"""What graphs compute, by two runtimes, and what the core answers to the same batch."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import load_from_string
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from service.graphs.model import onnx_model
from service.graphs.wanted import Wanted
from xentcore import LabelKind, Options, Spec, evaluate, find_variant


@dataclass(frozen=True)
class Outputs:
    """The outputs of a graph, float64."""

    loss: Tensor
    gradient: Tensor
    mean: float
    sum: float
    denominator: float


def wanted(
    asked: Spec, classes: int, kind: LabelKind | None = None, ignore_index: int | None = -100
) -> Wanted:
    settings = asked.settings or find_variant(asked.variant).settings_type()
    return Wanted(find_variant(asked.variant), settings, classes, kind, ignore_index)


def compute(asked: Wanted, logits: Tensor, labels: Tensor) -> Outputs:
    """Return what ONNX Runtime makes of a batch."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        onnx_model(asked), options, providers=["CPUExecutionProvider"]
    )
    return _outputs(
        [each.name for each in session.get_outputs()],
        session.run(None, _inputs(asked, logits, labels)),
    )


def compute_by_reference(asked: Wanted, logits: Tensor, labels: Tensor) -> Outputs:
    """Return what the standard's own evaluator makes of a batch."""
    evaluator = ReferenceEvaluator(load_from_string(onnx_model(asked)))
    with np.errstate(all="ignore"):
        found: Any = evaluator.run(None, _inputs(asked, logits, labels))
    return _outputs(evaluator.output_names, found)


def answer(asked: Wanted, logits: Tensor, labels: Tensor) -> Outputs:
    """Return what the core answers in float64: of ignored rows 0, of what is undefined NaN."""
    spec = Spec(asked.variant.slug, asked.settings)
    given = labels if asked.kind == "integer" else labels.double()
    common = {"label_kind": asked.kind, "ignore_index": asked.ignore_index}
    options = Options(**common, gradient_dtype=torch.float64)  # type: ignore[arg-type]
    (mean,) = evaluate(logits.double(), given, [spec], outputs={"gradient"}, options=options)
    options = Options(**common, reduction="none")  # type: ignore[arg-type]
    (each,) = evaluate(logits.double(), given, [spec], outputs={"per_sample"}, options=options)
    if each.per_sample is None or mean.gradient is None:
        raise AssertionError("asked for")
    loss = each.per_sample.reshape(-1)
    left_out = labels.reshape(len(logits), -1).double() == (asked.ignore_index or -100)
    return Outputs(
        loss=loss.masked_fill(left_out.all(dim=1), 0.0),
        gradient=mean.gradient.double(),
        mean=float("nan") if mean.loss is None else mean.loss,
        sum=mean.reduction.sum,
        denominator=mean.reduction.denominator,
    )


def assert_alike(found: Outputs, expected: Outputs, *, lost: float = 0.0) -> None:
    """Check that both are the same, but for rounding to what the outputs are stored in.

    Args:
        found: by a graph.
        expected: by the core.
        lost: what losses that are differences may be off by, nats.
    """
    # 1e-44: the smallest numbers of float32 have few digits.
    same = partial(torch.testing.assert_close, rtol=1.2e-7, equal_nan=True)
    same(found.loss, expected.loss, atol=lost + 1e-44)
    same(found.gradient, expected.gradient, atol=1e-12)
    for name in ("mean", "sum", "denominator"):
        one, other = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-300, err_msg=name)


def _inputs(asked: Wanted, logits: Tensor, labels: Tensor) -> dict[str, object]:
    if asked.kind == "integer":
        return {"logits": logits.float().numpy(), "labels": labels.long().numpy()}
    return {"logits": logits.float().numpy(), "labels": labels.float().numpy()}


def _outputs(names: list[str], found: list[np.ndarray]) -> Outputs:
    of = dict(zip(names, found, strict=True))
    assert of["loss"].dtype == of["gradient"].dtype == np.float32
    assert of["mean"].dtype == of["sum"].dtype == of["denominator"].dtype == np.float64
    return Outputs(
        loss=torch.from_numpy(of["loss"]).double(),
        gradient=torch.from_numpy(of["gradient"]).double(),
        mean=float(of["mean"]),
        sum=float(of["sum"]),
        denominator=float(of["denominator"]),
    )
