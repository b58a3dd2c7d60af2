"""Losses, sums, denominators and means against the definitions in exact arithmetic."""

from dataclasses import replace
from functools import cache
from typing import get_args

import pytest
import torch
from torch import Tensor

from tests.xentcore.conftest import DTYPES, ask, assert_exact, draw, name_of, spec
from tests.xentcore.oracle import (
    CASES,
    Case,
    balanced,
    effective_number,
    losses,
    softmax_loss,
)
from xentcore import Options
from xentcore.options import Normaliser

EVERY_LABEL_KIND = [(case, kind) for case in CASES for kind in case.labels]
# What does not depend on how labels are written is asked about one way of writing them.
ONE_LABEL_KIND = [(case, case.labels[0]) for case in CASES]
ROWS = 20
ROW_VALUES = Options(reduction="none")


@cache
def defined(case: Case, kind: str, dtype: torch.dtype) -> Tensor:
    """Return the exact losses of the rows that are drawn for a case, (rows,)."""
    batch = draw(kind, ROWS, dtype, ranks=case.ranks)
    return losses(case.loss, batch.logits, batch.targets)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize(("case", "kind"), EVERY_LABEL_KIND, ids=name_of)
def test_every_row_is_the_definition(
    case: Case, kind: str, dtype: torch.dtype, device: torch.device
) -> None:
    batch = draw(kind, ROWS, dtype, ranks=case.ranks)
    result = ask(case.spec, batch.logits, batch.labels, options=ROW_VALUES, device=device)
    assert result.label_kind == kind
    assert result.per_sample is not None
    assert_exact(result.per_sample.reshape(-1), defined(case, kind, dtype), dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=name_of)
@pytest.mark.parametrize(("case", "kind"), EVERY_LABEL_KIND, ids=name_of)
def test_no_loss_is_worse_than_the_naive_expression(
    case: Case, kind: str, dtype: torch.dtype
) -> None:
    batch = draw(kind, ROWS, dtype, ranks=case.ranks)
    labels = batch.labels if kind == "integer" else batch.labels.to(dtype)
    expected = defined(case, kind, dtype)
    naive = case.naive(batch.logits, labels).double()
    result = ask(case.spec, batch.logits, batch.labels, options=ROW_VALUES)
    assert result.per_sample is not None
    found = result.per_sample.reshape(-1)
    ulp = torch.finfo(dtype).eps
    assert worst(found - expected) <= worst(naive - expected) + 4 * ulp * expected.max().item()
    size = expected.abs().clamp_min(1e-30)
    assert worst((found - expected) / size) <= worst((naive - expected) / size) + 4 * ulp


def worst(errors: Tensor) -> float:
    """Return the largest error; a NaN is the worst there is."""
    return errors.abs().nan_to_num(nan=torch.inf).max().item()


def denominator(case: Case, targets: Tensor, weights: Tensor, normaliser: str) -> float:
    rows, classes = targets.shape
    if normaliser == "rows":
        return rows
    if normaliser == "elements":
        return rows * classes
    class_weights = torch.tensor(case.weights or [1.0] * classes, dtype=torch.float64)
    return float((weights[:, None] * class_weights * targets.double()).sum())


@pytest.mark.parametrize("normaliser", get_args(Normaliser))
@pytest.mark.parametrize(("case", "kind"), ONE_LABEL_KIND, ids=name_of)
def test_the_mean_is_the_weighted_sum_over_the_normalisers_denominator(
    case: Case, kind: str, normaliser: Normaliser
) -> None:
    batch = draw(kind, ROWS, torch.float64, ranks=case.ranks)
    weights = torch.arange(ROWS, dtype=torch.float64).remainder(5) / 4
    result = ask(
        case.spec,
        batch.logits,
        batch.labels,
        sample_weights=weights,
        options=Options(normaliser=normaliser),
    )
    total = float((weights * defined(case, kind, torch.float64)).sum())
    share = denominator(case, batch.targets, weights, normaliser)
    assert result.reduction.normaliser == normaliser
    assert result.reduction.sum == pytest.approx(total, rel=1e-12)
    assert result.reduction.denominator == pytest.approx(share, rel=1e-12)
    assert result.loss == pytest.approx(total / share, rel=1e-12)


@pytest.mark.parametrize(("case", "kind"), EVERY_LABEL_KIND, ids=name_of)
def test_float32_sums_are_those_of_the_definition(case: Case, kind: str) -> None:
    batch = draw(kind, ROWS, torch.float32, ranks=case.ranks)
    result = ask(case.spec, batch.logits, batch.labels)
    expected = defined(case, kind, torch.float32).sum().item()
    assert result.reduction.sum == pytest.approx(expected, rel=2e-6)
    ones = torch.ones(ROWS, dtype=torch.float64)
    expected = denominator(case, batch.targets, ones, result.reduction.normaliser)
    assert result.reduction.denominator == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize(("case", "kind"), ONE_LABEL_KIND, ids=name_of)
def test_every_reduction_states_the_same_sum_and_denominator(case: Case, kind: str) -> None:
    batch = draw(kind, ROWS, torch.float32, ranks=case.ranks)
    mean, total, none = (
        ask(case.spec, batch.logits, batch.labels, options=Options(reduction=reduction))
        for reduction in ("mean", "sum", "none")
    )
    expected = replace(mean.reduction, name="sum")
    assert total.reduction == expected
    assert none.reduction == replace(expected, name="none")
    assert mean.loss == expected.sum / expected.denominator
    assert total.loss == expected.sum
    assert none.loss is None


@pytest.mark.parametrize(("case", "kind"), ONE_LABEL_KIND, ids=name_of)
def test_the_usual_normaliser_is_weights_for_softmax_and_elements_for_sigmoid(
    case: Case, kind: str
) -> None:
    batch = draw(kind, 4, torch.float32, ranks=case.ranks)
    result = ask(case.spec, batch.logits, batch.labels)
    expected = {"softmax": "weights", "sigmoid": "elements"}
    assert result.reduction.normaliser == expected[result.family]


@pytest.mark.parametrize("kind", ["integer", "one_hot", "probabilities"])
def test_balanced_weights_come_from_the_batch_where_no_counts_are_given(kind: str) -> None:
    batch = draw(kind, ROWS, torch.float64)
    counts = torch.bincount(batch.targets.argmax(1), minlength=5).tolist()
    result = ask(spec("weighted", class_weights="balanced"), batch.logits, batch.labels)
    loss = softmax_loss(weights=balanced(counts))
    expected = losses(loss, batch.logits, batch.targets).sum().item()
    assert result.reduction.sum == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("beta", [0.9, 0.999, 1 - 1e-12])
def test_effective_number_weights_come_from_the_batch_where_no_counts_are_given(
    beta: float,
) -> None:
    batch = draw("integer", ROWS, torch.float64)
    counts = torch.bincount(batch.labels, minlength=5).tolist()
    asked = spec("weighted", class_weights="effective_number", beta=beta)
    loss = softmax_loss(weights=effective_number(counts, beta))
    expected = losses(loss, batch.logits, batch.targets).sum().item()
    result = ask(asked, batch.logits, batch.labels)
    # 1 - beta itself holds four digits at beta = 1 - 1e-12, and cancels in the scaling to C.
    assert result.reduction.sum == pytest.approx(expected, rel=1e-12)


def test_a_class_the_batch_does_not_hold_weighs_nothing_when_balanced() -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 0, 0, 2, 2, 1])
    result = ask(spec("weighted", class_weights="balanced"), logits, labels, outputs={"per_class"})
    assert result.per_class is not None
    # Every class that is there weighs the same in all: R / C.
    assert result.per_class["weight"].tolist() == [1.5, 1.5, 1.5, 0.0]
