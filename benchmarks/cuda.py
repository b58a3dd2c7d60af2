"""Loss and gradient on a GPU, against PyTorch and its like, as multiples of copying the logits."""

import sys
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.environments import NotInstalled, packages
from benchmarks.harness import Row, Table, interleaved
from xentcore import EAGER, Output, Spec, evaluate

COPY: Final = "copy on the device"
OURS: Final = "xentcore, loss + gradient"
EAGERLY: Final = "F.cross_entropy, autograd"
COMPILED: Final = "F.cross_entropy, autograd, torch.compile"
LIGER: Final = "Liger-Kernel"
GRADIENT: Final[Output] = "gradient"


def run(*, quick: bool) -> Table:
    """Measure where there is a device, and say so where there is none."""
    rows, classes = (1024, 4096) if quick else (16384, 32768)
    title = f"CUDA, {rows} x {classes} bfloat16, loss and gradient"
    if not torch.cuda.is_available():
        return Table(title, "ms", (Row(OURS, None, limit="no CUDA device"),))
    return measure(torch.device("cuda"), title, rows, classes, 5 if quick else 15)


def measure(device: torch.device, title: str, rows: int, classes: int, repetitions: int) -> Table:
    """Measure on a device of any kind."""
    logits = torch.randn(rows, classes, device=device, dtype=torch.bfloat16) * 3
    labels = torch.randint(classes, (rows,), device=device)
    target = torch.empty_like(logits)
    compiled = torch.compile(cross_entropy)

    specs, outputs = [Spec("sparse")], {GRADIENT}

    def ours() -> object:
        return evaluate(logits, labels, specs, outputs=outputs, device=device, passes=EAGER)

    cases: dict[str, Callable[[], object]] = {
        COPY: lambda: target.copy_(logits),
        OURS: ours,
        EAGERLY: lambda: _autograd(cross_entropy, logits, labels),
        COMPILED: lambda: _autograd(compiled, logits, labels),
    }
    missing = ""
    try:
        liger = _liger()
        cases[LIGER] = lambda: _autograd(liger, logits.clone(), labels)  # it writes to its input
    except (NotInstalled, ImportError, RuntimeError) as error:
        missing = str(error).partition("\n")[0]
    samples = interleaved({name: _done(device, case) for name, case in cases.items()}, repetitions)
    found = [Row(name, samples[name], None if name == COPY else COPY) for name in cases]
    if missing:
        found.append(Row(LIGER, None, COPY, limit=missing))
    moved_gb = 2 * logits.nbytes / 1e9
    return Table(
        title,
        "ms",
        tuple(found),
        (
            f"The copy reads and writes {moved_gb:.2f} GB, "
            f"{moved_gb / samples[COPY].median * 1e3:.0f} GB/s: what reads logits once and writes "
            "a gradient once can be no faster. Liger-Kernel writes its gradient over the logits, "
            "so its time includes a copy of them.",
        ),
    )


def _done(device: torch.device, case: Callable[[], object]) -> Callable[[], None]:
    """Return a case that ends when the device has finished it."""

    def run() -> None:
        case()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def _autograd(function: Callable[..., Any], logits: Tensor, labels: Tensor) -> Tensor | None:
    leaf = logits.detach().requires_grad_()
    function(leaf, labels).backward()
    return leaf.grad


def _liger() -> Callable[..., Any]:
    """Return Liger-Kernel's cross-entropy, from a folder of its own beside this interpreter's.

    Raises:
        NotInstalled: it cannot be had here.
        ImportError: it does not fit what is here.
    """
    folder = str(packages("liger"))
    sys.path.append(folder)
    try:
        from liger_kernel.transformers.functional import (  # noqa: PLC0415  (found only now)
            liger_cross_entropy,
        )
    finally:
        sys.path.remove(folder)
    function: Callable[..., Any] = liger_cross_entropy
    return function
