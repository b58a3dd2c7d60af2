"""Gradients against difference quotients of the definitions in exact arithmetic."""

from functools import cache
from typing import get_args

import pytest
import torch
from torch import Tensor

from tests.xentcore.conftest import CPU, DTYPES, Batch, ask, assert_exact, draw, name_of
from tests.xentcore.oracle import (
    CASES,
    Case,
    gradients,
    sigmoid_focal_loss,
    softmax_focal_loss,
)
from xentcore import Options, Result
from xentcore.options import Normaliser

EVERY_LABEL_KIND = [(case, kind) for case in CASES for kind in case.labels]
# What does not depend on how labels are written is asked about one way of writing them.
ONE_LABEL_KIND = [(case, case.labels[0]) for case in CASES]
ROWS = 6
HALF = (torch.float16, torch.bfloat16)


@cache
def defined(case: Case, kind: str, dtype: torch.dtype) -> Tensor:
    """Return the exact gradients of the rows that are drawn for a case, (rows, classes)."""
    batch = draw(kind, ROWS, dtype, ranks=case.ranks)
    return gradients(case.loss, batch.logits, batch.targets)


def answer(
    case: Case,
    batch: Batch,
    options: Options,
    *,
    sample_weights: Tensor | None = None,
    device: torch.device = CPU,
) -> Result:
    return ask(
        case.spec,
        batch.logits,
        batch.labels,
        sample_weights=sample_weights,
        outputs={"gradient"},
        options=options,
        device=device,
    )


def gradient_of(result: Result) -> Tensor:
    assert result.gradient is not None
    return result.gradient


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize(("case", "kind"), EVERY_LABEL_KIND, ids=name_of)
def test_the_gradient_of_the_sum_is_the_definitions_derivative(
    case: Case, kind: str, dtype: torch.dtype, device: torch.device
) -> None:
    batch = draw(kind, ROWS, dtype, ranks=case.ranks)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    options = Options(reduction="sum", gradient_dtype=exact)
    gradient = gradient_of(answer(case, batch, options, device=device))
    assert gradient.dtype == exact
    assert_exact(gradient, defined(case, kind, dtype), dtype)


@pytest.mark.parametrize("dtype", HALF, ids=name_of)
@pytest.mark.parametrize(("case", "kind"), ONE_LABEL_KIND, ids=name_of)
def test_a_half_precision_gradient_is_the_float32_one_rounded_once(
    case: Case, kind: str, dtype: torch.dtype
) -> None:
    batch = draw(kind, ROWS, dtype, ranks=case.ranks)
    rounded = gradient_of(answer(case, batch, Options()))
    single = gradient_of(answer(case, batch, Options(gradient_dtype=torch.float32)))
    assert rounded.dtype == dtype
    assert torch.equal(rounded, single.to(dtype))


@pytest.mark.parametrize("normaliser", get_args(Normaliser))
@pytest.mark.parametrize(("case", "kind"), ONE_LABEL_KIND, ids=name_of)
def test_the_gradient_of_the_mean_is_that_of_the_sum_over_the_denominator(
    case: Case, kind: str, normaliser: Normaliser
) -> None:
    batch = draw(kind, ROWS, torch.float64, ranks=case.ranks)
    weights = torch.arange(ROWS, dtype=torch.float64).remainder(5) / 4
    result = answer(case, batch, Options(normaliser=normaliser), sample_weights=weights)
    total = weights[:, None] * defined(case, kind, torch.float64)
    assert_exact(gradient_of(result), total / result.reduction.denominator, torch.float64)


@pytest.mark.parametrize(("case", "kind"), ONE_LABEL_KIND, ids=name_of)
def test_without_a_reduction_each_rows_gradient_is_its_own(case: Case, kind: str) -> None:
    batch = draw(kind, ROWS, torch.float32, ranks=case.ranks)
    summed = gradient_of(answer(case, batch, Options(reduction="sum")))
    assert torch.equal(gradient_of(answer(case, batch, Options(reduction="none"))), summed)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=name_of)
@pytest.mark.parametrize(("case", "kind"), EVERY_LABEL_KIND, ids=name_of)
def test_no_gradient_is_worse_than_that_of_the_naive_expression(
    case: Case, kind: str, dtype: torch.dtype
) -> None:
    batch = draw(kind, ROWS, dtype, ranks=case.ranks)
    labels = batch.labels if kind == "integer" else batch.labels.to(dtype)
    expected = defined(case, kind, dtype)
    z = batch.logits.clone().requires_grad_()
    (naive,) = torch.autograd.grad(case.naive(z, labels).sum(), z)
    found = gradient_of(answer(case, batch, Options(reduction="sum")))
    ulp = torch.finfo(dtype).eps * expected.abs().max().item()
    assert worst(found - expected) <= worst(naive - expected) + 4 * ulp


def worst(errors: Tensor) -> float:
    """Return the largest error; a NaN is the worst there is."""
    return errors.abs().nan_to_num(nan=torch.inf).max().item()


@pytest.mark.parametrize(("case", "kind"), EVERY_LABEL_KIND, ids=name_of)
def test_the_closed_form_is_what_autograd_finds_in_float64(case: Case, kind: str) -> None:
    batch = draw(kind, ROWS, torch.float64, ranks=case.ranks)
    # Where the naive expression keeps its digits.
    z = batch.logits.clamp(-4, 4).requires_grad_()
    labels = batch.labels if kind == "integer" else batch.labels.double()
    (expected,) = torch.autograd.grad(case.naive(z, labels).sum(), z)
    moderate = Batch(z.detach(), batch.labels, batch.targets)
    found = gradient_of(answer(case, moderate, Options(reduction="sum")))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


LOGITS = (-1.5, 2.25, 30.0)
TARGETS = (0.25, 0.75, 0.0)


@pytest.mark.parametrize("order", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_the_oracles_softmax_derivative_is_mpmaths(order: tuple[int, ...]) -> None:
    mp = pytest.importorskip("mpmath").mp.clone()
    mp.dps = 60

    def loss(*logits: float) -> object:
        partition = mp.fsum(mp.exp(z) for z in logits)
        p = [mp.exp(z) / partition for z in logits]
        return -mp.fsum(t * mp.sqrt(1 - q) * mp.log(q) for t, q in zip(TARGETS, p, strict=True))

    expected = float(mp.diff(loss, LOGITS, order))
    oracle = softmax_focal_loss(gamma=0.5)
    found = gradients(oracle, torch.tensor([LOGITS]), torch.tensor([TARGETS]))[0]
    assert float(found[order.index(1)]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("order", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_the_oracles_sigmoid_derivative_is_mpmaths(order: tuple[int, ...]) -> None:
    mp = pytest.importorskip("mpmath").mp.clone()
    mp.dps = 60

    def loss(*logits: float) -> object:
        p = [1 / (1 + mp.exp(-z)) for z in logits]
        return -mp.fsum(
            mp.sqrt(q + t - 2 * q * t) * (t * mp.log(q) + (1 - t) * mp.log(1 - q))
            for t, q in zip(TARGETS, p, strict=True)
        )

    expected = float(mp.diff(loss, LOGITS, order))
    oracle = sigmoid_focal_loss(gamma=0.5)
    found = gradients(oracle, torch.tensor([LOGITS]), torch.tensor([TARGETS]))[0]
    assert float(found[order.index(1)]) == pytest.approx(expected, rel=1e-12)
