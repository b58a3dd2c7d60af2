"""The core without any wire, against PyTorch on the same tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks import compiled
from benchmarks.bodies import batch
from benchmarks.harness import Row, Table, interleaved
from xentcore import Output, Passes, Spec, evaluate

FORWARD: Final = "F.cross_entropy, per row"
BACKWARD: Final = "F.cross_entropy, autograd"


@dataclass(frozen=True, slots=True)
class Shape:
    """A batch, and how its two comparisons must end.

    Attributes:
        rows: how many.
        classes: how many.
        forward: the ratio to the forward pass must be at most.
        backward: the ratio to autograd must be at most.
    """

    rows: int
    classes: int
    forward: float
    backward: float


@dataclass(frozen=True, slots=True)
class Case:
    """One question, answered by the compiled passes and by the eager ones."""

    name: str
    outputs: tuple[Output, ...]
    baseline: str
    target: float | None


def run(shape: Shape, *, repetitions: int) -> Table:
    """Measure loss with statistics, and loss with gradient."""
    logits, labels = batch(shape.rows, shape.classes)
    cases = (
        Case("loss + per_class", ("per_class",), FORWARD, None),
        Case(
            "loss + row_statistics + per_class",
            ("row_statistics", "per_class"),
            FORWARD,
            shape.forward,
        ),
        Case("loss + gradient + per_class", ("gradient", "per_class"), BACKWARD, shape.backward),
    )
    passes = compiled.both()
    samples = interleaved(
        {
            FORWARD: lambda: cross_entropy(logits, labels, reduction="none"),
            BACKWARD: lambda: _autograd(logits, labels),
            **{
                f"{case.name}, {name}": _evaluation(logits, labels, case, each)
                for case in cases
                for name, each in passes.items()
            },
        },
        repetitions,
    )

    def row(case: Case, name: str) -> Row:
        full = f"{case.name}, {name}"
        target = ("<=", case.target) if case.target and name == "compiled" else None
        if name not in passes:
            return Row(full, None, case.baseline, target, compiled.MISSING)
        limit = "" if target is None else _limit(logits, labels, case, passes[name])
        return Row(full, samples[full], case.baseline, target, limit)

    rows = []
    for baseline in (FORWARD, BACKWARD):
        rows.append(Row(baseline, samples[baseline]))
        asked = [case for case in cases if case.baseline == baseline]
        rows += [row(case, name) for case in asked for name in ("compiled", "eager")]
    threads = torch.get_num_threads()
    return Table(
        f"Core, {shape.rows} x {shape.classes} float32, {threads} threads", "ms", tuple(rows)
    )


def _evaluation(logits: Tensor, labels: Tensor, case: Case, passes: Passes) -> Callable[[], object]:
    specs = [Spec("sparse")]
    return lambda: evaluate(logits, labels, specs, outputs=case.outputs, passes=passes)


def _limit(logits: Tensor, labels: Tensor, case: Case, passes: Passes) -> str:
    return compiled.limit(passes, lambda each: _evaluation(logits, labels, case, each)())


def _autograd(logits: Tensor, labels: Tensor) -> None:
    leaf = logits.detach().requires_grad_()
    cross_entropy(leaf, labels).backward()  # type: ignore[no-untyped-call]
