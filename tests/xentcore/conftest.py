"""Devices to test on, batches to test with, and a short way to ask one variant."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from unittest import mock

import pytest
import torch
from torch import Tensor

from tests.xentcore.oracle import CLASSES, Case
from xentcore import Options, Output, Result, Spec, evaluate, find_variant, resolve_device

CPU = torch.device("cpu")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
            ],
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> torch.device:
    return resolve_device(request.param)


def spec(slug: str, **settings: object) -> Spec:
    """Return a variant with these settings, the others at their defaults."""
    return Spec(slug, find_variant(slug).settings_type(**settings))


@contextmanager
def blocks_of(elements: int) -> Iterator[None]:
    """Cut chunks into blocks of this many elements."""

    def block_rows(classes: int, _: torch.device, **__: int) -> int:
        return max(1, elements // max(classes, 1))

    with mock.patch("xentcore.evaluation.block_rows", block_rows):
        yield


def ask(  # noqa: PLR0913  (evaluate's keywords)
    asked: Spec,
    logits: Tensor,
    labels: Tensor,
    *,
    sample_weights: Tensor | None = None,
    outputs: Collection[Output] = (),
    options: Options | None = None,
    device: torch.device = CPU,
) -> Result:
    """Return the answer of one variant."""
    (result,) = evaluate(
        logits,
        labels,
        [asked],
        sample_weights=sample_weights,
        outputs=outputs,
        options=options,
        device=device,
    )
    return result


@dataclass(frozen=True)
class Batch:
    """Logits (rows, classes), labels of one kind, and the labels as targets (rows, classes)."""

    logits: Tensor
    labels: Tensor
    targets: Tensor


@cache
def draw(kind: str, rows: int, dtype: torch.dtype, *, seed: int = 0, ranks: bool = False) -> Batch:
    """Draw rows that are undecided, decided and overconfident in turn, with labels of a kind.

    Ranks: labels say how many of the columns are passed.
    """
    generator = torch.Generator().manual_seed(seed)
    classes = 1 if kind == "binary" else CLASSES
    spread = torch.tensor([0.1, 1.0, 5.0, 20.0]).repeat(rows)[:rows, None]
    logits = (torch.randn(rows, classes, generator=generator) * spread).to(dtype)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    if ranks:
        return Batch(logits, *_ranks(kind, rows, classes, generator))
    index = torch.randint(classes, (rows,), generator=generator)
    one_hot = torch.nn.functional.one_hot(index, classes)
    if kind == "integer":
        return Batch(logits, index, one_hot)
    if kind == "one_hot":
        return Batch(logits, one_hot, one_hot)
    if kind == "probabilities":
        soft = (2 * torch.randn(rows, classes, generator=generator, dtype=exact)).softmax(1)
        # Some rows with zeros, and some that are certain.
        soft[::5] = one_hot[::5].to(exact)
        soft[1::5] = (one_hot[1::5] + one_hot[1::5].roll(1, dims=1)) / 2
        return Batch(logits, soft, soft)
    yes = torch.randint(2, (rows, classes), generator=generator)
    return Batch(logits, yes, yes)


def _ranks(
    kind: str, rows: int, thresholds: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    rank = torch.randint(thresholds + 1, (rows,), generator=generator)
    passed = torch.zeros(rows, thresholds + 1, dtype=torch.int64).scatter_(1, rank[:, None], 1)
    # All columns before the rank, none from it on.
    passed = 1 - passed[:, :-1].cumsum(dim=1)
    return (rank if kind == "integer" else passed), passed


def name_of(value: object) -> str:
    """Name a parameter in reports; a variant by the settings that are not its defaults."""
    if isinstance(value, Case):
        return value.name
    if isinstance(value, Spec) and value.settings is not None:
        stated = [
            f"{setting.name}={given}"
            for setting in fields(value.settings)
            if (given := getattr(value.settings, setting.name)) != setting.default
        ]
        return "-".join([value.variant, *stated])
    # A function's address differs from process to process, and tests are shared out by name.
    return getattr(value, "__qualname__", str(value)).removeprefix("torch.")


def assert_exact(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Check numbers against exact ones computed from the same inputs of this dtype.

    float64: within 1e-12; below, computed in float32: within 2e-6 relative or 1e-7 absolute.
    """
    relative, absolute = (1e-12, 1e-12) if dtype == torch.float64 else (2e-6, 1e-7)
    torch.testing.assert_close(found.double(), expected, rtol=relative, atol=absolute)
