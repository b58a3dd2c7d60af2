"""The core without any wire, against PyTorch on the same tensors."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.bodies import batch
from benchmarks.harness import Row, Table, interleaved
from xentcore import Output, Spec, evaluate

FORWARD: Final = "F.cross_entropy, per row"
BACKWARD: Final = "F.cross_entropy, autograd"


def run(rows: int, classes: int, *, repetitions: int) -> Table:
    """Measure loss with statistics, and loss with gradient."""
    logits, labels = batch(rows, classes)
    asked = {
        "loss + per_class": _evaluation(logits, labels, "per_class"),
        "loss + row_statistics + per_class": _evaluation(
            logits, labels, "row_statistics", "per_class"
        ),
    }
    with_gradient = {
        "loss + gradient + per_class": _evaluation(logits, labels, "gradient", "per_class")
    }
    samples = interleaved(
        {
            FORWARD: lambda: cross_entropy(logits, labels, reduction="none"),
            **asked,
            BACKWARD: lambda: _autograd(logits, labels),
            **with_gradient,
        },
        repetitions,
    )
    return Table(
        f"Core, {rows} x {classes} float32, {torch.get_num_threads()} threads",
        "ms",
        (
            Row(FORWARD, samples[FORWARD]),
            *(Row(name, samples[name], FORWARD) for name in asked),
            Row(BACKWARD, samples[BACKWARD]),
            *(Row(name, samples[name], BACKWARD) for name in with_gradient),
        ),
    )


def _evaluation(logits: Tensor, labels: Tensor, *outputs: Output) -> Callable[[], object]:
    return lambda: evaluate(logits, labels, [Spec("sparse")], outputs=outputs)


def _autograd(logits: Tensor, labels: Tensor) -> None:
    leaf = logits.detach().requires_grad_()
    cross_entropy(leaf, labels).backward()  # type: ignore[no-untyped-call]
