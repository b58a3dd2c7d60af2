"""Softmax variants beside each other: where they coincide, and what each promises at the edge."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.xentcore.conftest import ask, assert_exact, draw, name_of, spec
from tests.xentcore.oracle import (
    CASES,
    COUNTS,
    WEIGHTS,
    Case,
    RowLoss,
    bi_tempered_loss,
    confidence_penalty_loss,
    effective_number,
    generalized,
    gradients,
    losses,
    on_label_loss,
    poly1,
    symmetric_loss,
    taylor,
    z_loss,
)
from xentcore import (
    OUTPUTS,
    Evaluation,
    InvalidSetting,
    LabelKind,
    LabelKindRefused,
    NonFinite,
    Options,
    Output,
    Result,
    Spec,
    evaluate,
    find_variant,
)
from xentcore.options import InputKind
from xentcore.tempered import log_probabilities

INF = math.inf
SLUGS = (
    "bi-tempered",
    "class-balanced",
    "confidence-penalty",
    "generalized",
    "poly1",
    "symmetric",
    "taylor",
    "z-loss",
)
OURS = [(case, kind) for case in CASES if case.slug in SLUGS for kind in case.labels]
KINDS: tuple[LabelKind, ...] = ("integer", "one_hot", "probabilities")
HARD: tuple[LabelKind, ...] = ("integer", "one_hot")
ROW_VALUES = Options(reduction="none", gradient_dtype=torch.float64)
ROW_OUTPUTS: set[Output] = {"per_sample", "gradient"}
ROWS = 40


def rows_of(asked: Spec, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses of rows, and the gradients of their sum."""
    result = ask(asked, logits, labels, outputs=ROW_OUTPUTS, options=ROW_VALUES)
    assert result.per_sample is not None
    assert result.gradient is not None
    return result.per_sample, result.gradient


def gradient_of(result: Result) -> Tensor:
    assert result.gradient is not None
    return result.gradient


def plain(kind: LabelKind, **settings: object) -> Spec:
    """Return cross-entropy for labels of a kind."""
    return spec("sparse" if kind == "integer" else "categorical", **settings)


def assert_rows_equal(found: Spec, expected: Spec, kind: LabelKind, dtype: torch.dtype) -> None:
    """Check losses and gradients bit for bit."""
    batch = draw(kind, ROWS, dtype)
    for mine, theirs in zip(
        rows_of(found, batch.logits, batch.labels),
        rows_of(expected, batch.logits, batch.labels),
        strict=True,
    ):
        assert torch.equal(mine, theirs)


# Where variants coincide


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "neutral",
    [
        spec("z-loss", penalty=0.0),
        spec("confidence-penalty", beta=0.0),
        spec("symmetric", alpha=1.0, beta=0.0),
    ],
    ids=name_of,
)
def test_without_its_own_term_a_variant_is_cross_entropy(
    neutral: Spec, kind: LabelKind, dtype: torch.dtype
) -> None:
    assert_rows_equal(neutral, plain(kind), kind, dtype)


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize(
    ("slug", "settings"), [("generalized", {"q": 0.0}), ("poly1", {"epsilon": 0.0})]
)
def test_on_hard_labels_the_limit_is_weighted_cross_entropy_to_the_last_bit(
    slug: str, settings: Mapping[str, float], kind: LabelKind
) -> None:
    limit = spec(slug, class_weights=WEIGHTS, **settings)
    assert_rows_equal(limit, plain(kind, class_weights=WEIGHTS), kind, torch.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999])
def test_class_balanced_without_gamma_is_weighted_by_effective_number(
    beta: float, kind: LabelKind
) -> None:
    batch = draw(kind, ROWS, torch.float32)
    settings = {"beta": beta, "class_counts": COUNTS}
    expected = ask(
        spec("weighted", class_weights="effective_number", **settings),
        batch.logits,
        batch.labels,
        outputs=OUTPUTS,
    )
    found = ask(spec("class-balanced", **settings), batch.logits, batch.labels, outputs=OUTPUTS)
    assert found.reduction == expected.reduction
    assert torch.equal(gradient_of(found), gradient_of(expected))
    assert found.hardest == expected.hardest


@pytest.mark.parametrize("kind", KINDS)
def test_class_balanced_with_gamma_is_focal_loss_of_that_alpha(kind: LabelKind) -> None:
    balanced = spec("class-balanced", gamma=1.5, class_counts=COUNTS)
    focal = spec("focal", gamma=1.5, alpha=effective_number(COUNTS, 0.999))
    batch = draw(kind, ROWS, torch.float64)
    for found, expected in zip(
        rows_of(balanced, batch.logits, batch.labels),
        rows_of(focal, batch.logits, batch.labels),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize(("alpha", "beta", "log_zero"), [(0.1, 1.0, -4.0), (6.0, 0.1, -6.0)])
def test_on_hard_labels_symmetric_is_a_multiple_of_poly1(
    alpha: float, beta: float, log_zero: float, kind: LabelKind
) -> None:
    batch = draw(kind, ROWS, torch.float64)
    symmetric = spec("symmetric", alpha=alpha, beta=beta, log_zero=log_zero)
    same = spec("poly1", epsilon=-beta * log_zero / alpha)
    for found, expected in zip(
        rows_of(symmetric, batch.logits, batch.labels),
        rows_of(same, batch.logits, batch.labels),
        strict=True,
    ):
        torch.testing.assert_close(found, alpha * expected, rtol=1e-12, atol=1e-15)


def test_on_label_distributions_symmetric_is_no_multiple_of_poly1() -> None:
    batch = draw("probabilities", ROWS, torch.float64)
    found, _ = rows_of(spec("symmetric"), batch.logits, batch.labels)
    poly, _ = rows_of(spec("poly1", epsilon=40.0), batch.logits, batch.labels)
    assert ((found - 0.1 * poly).abs() > 0.1).any()


@pytest.mark.parametrize("kind", KINDS)
def test_taylor_of_order_1_is_generalized_with_q_1(kind: LabelKind) -> None:
    batch = draw(kind, ROWS, torch.float64)
    for found, expected in zip(
        rows_of(spec("taylor", order=1), batch.logits, batch.labels),
        rows_of(spec("generalized", q=1.0), batch.logits, batch.labels),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_taylor_of_a_large_order_is_cross_entropy_unless_p_is_small() -> None:
    batch = draw("integer", ROWS, torch.float64)
    near = (batch.logits.softmax(1).gather(1, batch.labels[:, None]) > 0.3)[:, 0]
    assert 5 < near.sum() < ROWS
    logits, labels = batch.logits[near], batch.labels[near]
    for found, expected in zip(
        rows_of(spec("taylor", order=100), logits, labels),
        rows_of(spec("sparse"), logits, labels),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t2", [1.0, 1 + 1e-15])
def test_bi_tempered_of_temperatures_1_is_cross_entropy_less_the_labels_entropy(
    t2: float, kind: LabelKind
) -> None:
    batch = draw(kind, ROWS, torch.float64)
    found, slopes = rows_of(spec("bi-tempered", t1=1.0, t2=t2), batch.logits, batch.labels)
    expected, others = rows_of(plain(kind), batch.logits, batch.labels)
    entropy = -torch.xlogy(batch.targets, batch.targets.double()).sum(1)
    torch.testing.assert_close(found, expected - entropy, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(slopes, others, rtol=1e-11, atol=1e-13)


def test_bi_tempered_spreads_labels_as_label_smoothing_spreads_to_others() -> None:
    batch = draw("integer", ROWS, torch.float64)
    asked = spec("bi-tempered", t1=1.0, t2=1.0, smoothing=0.2)
    found, slopes = rows_of(asked, batch.logits, batch.labels)
    smoothed = spec("label-smoothing", spread="others", smoothing=0.2)
    expected, others = rows_of(smoothed, batch.logits, batch.labels)
    entropy = -(0.8 * math.log(0.8) + 0.2 * math.log(0.05))
    torch.testing.assert_close(found, expected - entropy, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slopes, others, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_of_a_limit_and_close_to_it_agree(kind: LabelKind) -> None:
    batch = draw(kind, ROWS, torch.float64)
    for limit, close in (
        (spec("generalized", q=0.0), spec("generalized", q=1e-14)),
        (spec("bi-tempered", t1=1.0), spec("bi-tempered", t1=1 - 1e-14)),
        (spec("bi-tempered", t2=1.0), spec("bi-tempered", t2=1 + 1e-14)),
    ):
        for found, expected in zip(
            rows_of(close, batch.logits, batch.labels),
            rows_of(limit, batch.logits, batch.labels),
            strict=True,
        ):
            torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


# Closed forms against the definitions, differentiated by machine


@pytest.mark.parametrize(("case", "kind"), OURS, ids=name_of)
def test_the_closed_form_is_what_autograd_makes_of_the_definition(
    case: Case, kind: LabelKind
) -> None:
    batch = draw(kind, ROWS, torch.float64)
    # Where probabilities vanish, what is written naively has lost its digits.
    logits = batch.logits.clamp(-3, 3)
    labels = batch.labels if kind == "integer" else batch.labels.double()
    z = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(case.naive(z, labels).sum(), z)
    _, found = rows_of(case.spec, logits, batch.labels)
    # A q of 1e-9 leaves the naive form seven digits.
    close = 1e-6 if case.name == "generalized-q-1e-9" else 1e-8
    torch.testing.assert_close(found, expected, rtol=close, atol=close)


# Digits


@pytest.mark.parametrize("gap", [9.0, 17.5, 27.625, 60.0, 85.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize("case", [case for case, kind in OURS if kind == "integer"], ids=name_of)
def test_losses_and_gradients_keep_their_digits_where_p_is_nearly_1(
    case: Case, dtype: torch.dtype, gap: float
) -> None:
    logits = torch.tensor([[gap, 0.0, 0.5, -1.0, 0.0]], dtype=dtype)
    target = torch.tensor([[1, 0, 0, 0, 0]])
    found, slopes = rows_of(case.spec, logits, torch.tensor([0]))
    # confidence-penalty is a difference of numbers of one size.
    relative = 2e-12 if dtype == torch.float64 else 5e-6
    expected = losses(case.loss, logits, target)
    torch.testing.assert_close(found, expected, rtol=relative, atol=0)
    exact = gradients(case.loss, logits, target)
    # Where the difference quotient of 80 digits ends, and float32 does; under confidence-penalty
    # the gradient of a class changes its sign, at p = e^-10 here.
    crossing = case.slug == "confidence-penalty" and dtype == torch.float32
    smallest = 1e-11 if crossing else 1e-44
    torch.testing.assert_close(slopes, exact, rtol=relative, atol=smallest)


@pytest.mark.parametrize("gap", [9.0, 40.0, 85.0, 700.0])
@pytest.mark.parametrize("case", [case for case, kind in OURS if kind == "integer"], ids=name_of)
def test_losses_and_gradients_keep_their_digits_where_p_is_nearly_0(case: Case, gap: float) -> None:
    logits = torch.tensor([[-gap, 0.0, 0.5, -1.0, 0.0]], dtype=torch.float64)
    target = torch.tensor([[1, 0, 0, 0, 0]])
    found, slopes = rows_of(case.spec, logits, torch.tensor([0]))
    torch.testing.assert_close(found, losses(case.loss, logits, target), rtol=1e-12, atol=0)
    exact = gradients(case.loss, logits, target)
    torch.testing.assert_close(slopes, exact, rtol=1e-11, atol=1e-16)


# Logits of -inf

BOUNDED = [
    (spec("generalized"), 1 / 0.7),
    (spec("generalized", q=1.0), 1.0),
    (spec("taylor"), 1.5),
    (spec("taylor", order=4), 25 / 12),
    (spec("symmetric", alpha=0.0), 4.0),
]
UNBOUNDED = [
    spec("class-balanced", class_counts=(5, 2, 1)),
    spec("class-balanced", class_counts=(5, 2, 1), gamma=0.5),
    spec("poly1"),
    spec("poly1", epsilon=-1.0),
    spec("generalized", q=0.0),
    spec("symmetric"),
    spec("z-loss"),
    spec("confidence-penalty"),
    spec("bi-tempered", t1=1.0),
    spec("bi-tempered", t1=1.0, t2=1.0),
]
ALL = [*UNBOUNDED, *(asked for asked, _ in BOUNDED), spec("bi-tempered")]
LOGITS = torch.tensor([[0.5, -1.0, 2.0], [0.5, -INF, 1.0], [1.5, 0.25, -3.0]])
LABELS = torch.tensor([2, 1, 0])
KEPT = torch.tensor([0, 2])


@pytest.mark.parametrize("asked", UNBOUNDED, ids=name_of)
@pytest.mark.parametrize("kind", ["integer", "probabilities"])
def test_a_label_on_minus_infinity_is_excluded_where_the_loss_has_no_bound(
    asked: Spec, kind: LabelKind
) -> None:
    labels = LABELS
    if kind == "probabilities":
        labels = torch.tensor([[0.0, 0.2, 0.8], [0.5, 0.25, 0.25], [0.9, 0.1, 0.0]])
    result = ask(asked, LOGITS, labels, outputs=OUTPUTS)
    expected = ask(asked, LOGITS[KEPT], labels[KEPT], outputs=OUTPUTS)
    assert (result.rows.infinite, result.rows.evaluated) == (1, 2)
    assert result.reduction == expected.reduction
    assert torch.equal(gradient_of(result)[KEPT], gradient_of(expected))
    assert gradient_of(result)[1].tolist() == [0, 0, 0]
    with pytest.raises(NonFinite, match=r"row \(1,\)"):
        ask(asked, LOGITS, labels, options=Options(nonfinite="reject"))


@pytest.mark.parametrize(("asked", "bound"), BOUNDED, ids=name_of)
def test_a_label_on_minus_infinity_has_the_bound_where_there_is_one(
    asked: Spec, bound: float
) -> None:
    result = ask(asked, LOGITS, LABELS, outputs=OUTPUTS)
    found, slopes = rows_of(asked, LOGITS, LABELS)
    assert result.rows.infinite == 0
    assert found[1].item() == pytest.approx(bound, rel=1e-12)
    assert slopes[1].tolist() == [0, 0, 0]
    half, _ = rows_of(asked, LOGITS[1:2], torch.tensor([[0.0, 0.5, 0.5]]))
    assert half.isfinite().all()


@pytest.mark.parametrize("t2", [1.0, 1.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bi_tempered_bounds_a_label_on_minus_infinity(t2: float, smoothing: float) -> None:
    asked = spec("bi-tempered", t1=0.5, t2=t2, smoothing=smoothing)
    found, slopes = rows_of(asked, LOGITS.double()[1:2], LABELS[1:2])
    # Far away p is as good as 0, and to the power 1 - t1 as well.
    far = LOGITS.double()[1:2].clamp_min(-1e30)
    expected, others = rows_of(asked, far, LABELS[1:2])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(slopes, others, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("asked", ALL, ids=name_of)
def test_a_class_of_minus_infinity_that_is_not_the_label_counts_as_absent(asked: Spec) -> None:
    logits = torch.tensor([[1.0, 0.5, -INF], [0.25, 3.0, -INF]], dtype=torch.float64)
    labels = torch.tensor([0, 0])
    found, slopes = rows_of(asked, logits, labels)
    if asked.variant == "class-balanced":
        # Weights are scaled to sum C: what two classes weigh would differ.
        far, others = rows_of(asked, logits.clamp_min(-1e4), labels)
        assert torch.equal(found, far)
        assert torch.equal(slopes, others)
        return
    two, others = rows_of(asked, logits[:, :2], labels)
    torch.testing.assert_close(found, two, rtol=1e-13, atol=0)
    torch.testing.assert_close(slopes[:, :2], others, rtol=1e-13, atol=1e-16)
    assert slopes[:, 2].tolist() == [0, 0]


@pytest.mark.parametrize("asked", ALL, ids=name_of)
def test_a_row_of_minus_infinity_only_is_excluded_and_poisons_nothing(asked: Spec) -> None:
    logits = LOGITS.clone()
    logits[1] = -INF
    result = ask(asked, logits, LABELS, outputs=OUTPUTS)
    expected = ask(asked, logits[KEPT], LABELS[KEPT], outputs=OUTPUTS)
    assert (result.rows.infinite, result.rows.evaluated) == (1, 2)
    assert result.reduction == expected.reduction
    assert torch.equal(gradient_of(result)[KEPT], gradient_of(expected))
    assert gradient_of(result)[1].tolist() == [0, 0, 0]
    assert result.per_class is not None
    assert result.per_class["gradient_sum"].isfinite().all()
    with pytest.raises(NonFinite):
        ask(asked, logits, LABELS, options=Options(nonfinite="reject"))


@pytest.mark.parametrize("asked", ALL, ids=name_of)
@pytest.mark.parametrize("content", [math.nan, INF, 1e38])
def test_an_ignored_row_contributes_nothing_whatever_it_holds(asked: Spec, content: float) -> None:
    logits = LOGITS.clone()
    logits[1] = content
    result = ask(asked, logits, torch.tensor([2, -100, 0]), outputs=OUTPUTS)
    expected = ask(asked, logits[KEPT], LABELS[KEPT], outputs=OUTPUTS)
    assert result.reduction == expected.reduction
    assert torch.equal(gradient_of(result)[KEPT], gradient_of(expected))
    assert gradient_of(result)[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize("q", [1e-30, 1e-45, 1e-300])
def test_a_q_of_almost_0_is_cross_entropy_whatever_the_dtype(q: float, dtype: torch.dtype) -> None:
    batch = draw("probabilities", ROWS, dtype)
    found, slopes = rows_of(spec("generalized", q=q), batch.logits, batch.labels)
    expected, others = rows_of(spec("generalized", q=0.0), batch.logits, batch.labels)
    close = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, rtol=close, atol=0)
    torch.testing.assert_close(slopes, others, rtol=close, atol=close)
    label = torch.tensor([[0.5, 0.5, 0.0]])
    at_infinity, slopes = rows_of(spec("generalized", q=q), LOGITS[1:2].to(dtype), label)
    assert at_infinity.item() > 1e29
    assert slopes.isfinite().all()


# What each promises


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6, 3e7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize("kind", KINDS)
def test_z_loss_is_exact_at_any_offset(kind: LabelKind, dtype: torch.dtype, offset: float) -> None:
    batch = draw(kind, 12, dtype)
    # Steps that float32 holds exactly at 3e7.
    logits = (batch.logits / 4).round() * 4 + offset
    found, slopes = rows_of(spec("z-loss"), logits, batch.labels)
    assert_exact(found, losses(z_loss(1e-4), logits, batch.targets), dtype)
    assert_exact(slopes, gradients(z_loss(1e-4), logits, batch.targets), dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_the_gradient_of_z_loss_sums_to_twice_lambda_times_the_log_sum_exp(
    kind: LabelKind,
) -> None:
    batch = draw(kind, ROWS, torch.float64)
    _, slopes = rows_of(spec("z-loss", penalty=0.25), batch.logits, batch.labels)
    expected = 0.5 * batch.logits.logsumexp(1)
    torch.testing.assert_close(slopes.sum(1), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stated", ["probabilities", "log_probabilities"])
def test_z_loss_of_probabilities_is_cross_entropy(stated: InputKind) -> None:
    p = draw("integer", ROWS, torch.float64).logits.softmax(1)
    sent = p if stated == "probabilities" else p.log()
    labels = draw("integer", ROWS, torch.float64).labels
    options = Options(input=stated)
    found = ask(spec("z-loss"), sent, labels, options=options)
    expected = ask(spec("sparse"), sent, labels, options=options)
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)


def test_only_z_loss_knows_a_common_offset() -> None:
    assert [slug for slug in SLUGS if not find_variant(slug).shift_invariant] == ["z-loss"]


def test_confidence_penalty_is_negative_where_doubt_is_worth_more_than_the_label() -> None:
    logits, labels = torch.zeros(4, 5), torch.tensor([0, 1, 2, 3])
    result = ask(spec("confidence-penalty", beta=3.0), logits, labels, outputs=OUTPUTS)
    assert result.loss == pytest.approx(-2 * math.log(5), rel=1e-6)
    assert result.distribution is not None
    assert result.distribution.p50 == pytest.approx(-2 * math.log(5), rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_bi_tempered_is_a_divergence(kind: LabelKind) -> None:
    batch = draw(kind, ROWS, torch.float64)
    found, _ = rows_of(spec("bi-tempered"), batch.logits, batch.labels)
    assert (found >= 0).all()
    assert (found <= 5).all()  # 1 / (1 - t1)


def test_bi_tempered_is_0_where_the_prediction_is_the_label() -> None:
    target = torch.tensor([[0.1, 0.2, 0.7]], dtype=torch.float64)
    # z = log_t2 p gives p back: lambda is 0.
    logits = (1 - target**-0.5) / 0.5
    found, slopes = rows_of(spec("bi-tempered", t2=1.5), logits, target)
    assert found.item() == pytest.approx(0, abs=1e-15)
    torch.testing.assert_close(slopes, torch.zeros_like(slopes), rtol=0, atol=1e-15)


SPREADS = (0.0, 0.1, 3.0, 100.0, 1e6, 1e300)


@pytest.mark.parametrize("t2", [1 + 1e-12, 1.01, 1.2, 2.0, 4.0, 10.0])
@pytest.mark.parametrize("classes", [2, 5, 1000])
def test_a_tempered_softmax_sums_to_1_whatever_the_logits(classes: int, t2: float) -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor(SPREADS, dtype=torch.float64)[:, None]
    logits = spread * torch.randn(len(SPREADS), classes, dtype=torch.float64, generator=generator)
    log_p = log_probabilities(logits - logits.amax(1, keepdim=True), t2)
    ones = torch.ones(len(SPREADS), dtype=torch.float64)
    torch.testing.assert_close(log_p.exp().sum(1), ones, rtol=1e-13, atol=0)
    # Each row stops when it is done, whatever the rows beside it still need.
    for row in range(len(SPREADS)):
        alone = logits[row : row + 1]
        found = log_probabilities(alone - alone.amax(1, keepdim=True), t2)
        assert torch.equal(found, log_p[row : row + 1])


@pytest.mark.parametrize("t2", [1.2, 2.0, 10.0])
@pytest.mark.parametrize("gap", [0.0, 8.0, 1e6])
def test_a_tempered_softmax_of_a_million_classes(gap: float, t2: float) -> None:
    classes = 1_000_000
    logits = torch.full((1, classes), -gap, dtype=torch.float64)
    logits[0, 17] = 0.0
    log_p = log_probabilities(logits, t2)
    p = log_p.exp()
    assert p.sum().item() == pytest.approx(1, rel=1e-12)
    # exp_t is undone: all classes have the same lambda.
    back = (1 - p ** (1 - t2)) / (t2 - 1)
    offsets = logits - back
    torch.testing.assert_close(
        offsets, offsets[:, :1].expand_as(offsets), rtol=1e-9, atol=1e-9 * max(1.0, gap)
    )


def test_bi_tempered_of_a_million_classes() -> None:
    logits = torch.zeros(1, 1_000_000)
    result = ask(spec("bi-tempered"), logits, torch.tensor([999_999]), outputs={"gradient"})
    p = 1e-6
    expected = (1 - p**0.2) / 0.2 - (1 - 1e6 * p**1.2) / 1.2
    assert result.loss == pytest.approx(expected, rel=1e-9)
    assert gradient_of(result).double().sum().item() == pytest.approx(0, abs=1e-7)


# Settings and labels


@pytest.mark.parametrize(
    ("slug", "settings"),
    [
        ("class-balanced", {"beta": 1.0}),
        ("class-balanced", {"gamma": -0.1}),
        ("class-balanced", {"class_counts": (1, 0)}),
        ("poly1", {"epsilon": -1.1}),
        ("generalized", {"q": -0.1}),
        ("generalized", {"q": 1.1}),
        ("symmetric", {"log_zero": 0.0}),
        ("symmetric", {"alpha": -1.0}),
        ("z-loss", {"penalty": -1.0}),
        ("confidence-penalty", {"beta": -1.0}),
        ("taylor", {"order": 0}),
        ("taylor", {"order": 101}),
        ("taylor", {"order": 1.5}),
        ("bi-tempered", {"t1": 1.1}),
        ("bi-tempered", {"t1": -0.1}),
        ("bi-tempered", {"t2": 0.9}),
        ("bi-tempered", {"t2": 11}),
        ("bi-tempered", {"smoothing": 1.0}),
    ],
)
def test_variants_state_their_ranges(slug: str, settings: Mapping[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(InvalidSetting, match=name):
        spec(slug, **settings)


@pytest.mark.parametrize("slug", SLUGS)
def test_labels_that_softmax_cannot_hold_are_refused_with_the_way_out(slug: str) -> None:
    multi_hot = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 1]])
    with pytest.raises(LabelKindRefused, match="use /loss/binary"):
        ask(spec(slug), LOGITS[KEPT], multi_hot[:2], options=Options(label_kind="multi_hot"))


def test_class_balanced_counts_come_from_the_batch_the_evaluation_or_the_settings() -> None:
    logits, labels = draw("integer", 6, torch.float64).logits, torch.tensor([0, 1, 2, 0, 0, 1])
    plain_spec = spec("class-balanced", gamma=2.0, beta=0.5)
    (from_batch,) = evaluate(logits, labels, [plain_spec])
    streamed = Evaluation([plain_spec], class_counts=[3, 2, 1, 0, 0])
    streamed.update(logits, labels)
    assert from_batch.loss == streamed.result()[0].loss
    assert from_batch.settings == plain_spec.settings
    (by_default,) = evaluate(logits, labels, [Spec("class-balanced")])
    assert by_default.loss == ask(spec("class-balanced"), logits, labels).loss
    some = Options(reduction="sum")
    stated = spec("class-balanced", gamma=2.0, beta=0.5, class_counts=(3, 2, 1))
    found = ask(stated, logits[:, :3], labels, options=some)
    assert found.loss == ask(plain_spec, logits[:, :3], labels, options=some).loss


def test_class_balanced_weights_of_a_stream_need_counts() -> None:
    with pytest.raises(InvalidSetting, match="give class_counts when rows come in") as caught:
        Evaluation([spec("class-balanced")])
    assert caught.value.pointer == "/settings/class_counts"


def test_class_balanced_counts_of_another_length_are_named() -> None:
    asked = spec("class-balanced", class_counts=(1, 2))
    with pytest.raises(InvalidSetting, match="class_counts has 2 entries for 3 classes"):
        ask(asked, LOGITS[KEPT], LABELS[KEPT])


@pytest.mark.parametrize(
    ("loss", "asked"),
    [
        (on_label_loss(poly1(2.5)), spec("poly1", epsilon=2.5)),
        (on_label_loss(generalized(0.25)), spec("generalized", q=0.25)),
        (on_label_loss(taylor(30)), spec("taylor", order=30)),
        (
            symmetric_loss(alpha=2.0, beta=3.0, log_zero=-9.0),
            spec("symmetric", alpha=2.0, beta=3.0, log_zero=-9.0),
        ),
        (confidence_penalty_loss(0.5), spec("confidence-penalty", beta=0.5)),
        (bi_tempered_loss(t1=0.3, t2=1.05), spec("bi-tempered", t1=0.3, t2=1.05)),
        (bi_tempered_loss(t1=0.9, t2=7.5), spec("bi-tempered", t1=0.9, t2=7.5)),
    ],
)
@pytest.mark.parametrize("kind", ["integer", "probabilities"])
def test_other_settings_are_the_definition_too(loss: RowLoss, asked: Spec, kind: LabelKind) -> None:
    batch = draw(kind, 8, torch.float64)
    found, slopes = rows_of(asked, batch.logits, batch.labels)
    assert_exact(found, losses(loss, batch.logits, batch.targets), torch.float64)
    assert_exact(slopes, gradients(loss, batch.logits, batch.targets), torch.float64)


def test_sample_weights_weigh_whole_rows_penalties_included() -> None:
    batch = draw("integer", 8, torch.float64)
    weights = torch.arange(8, dtype=torch.float64)
    for slug in ("z-loss", "confidence-penalty", "symmetric", "bi-tempered"):
        options = replace(ROW_VALUES, reduction="sum")
        rows, slopes = rows_of(spec(slug), batch.logits, batch.labels)
        result = ask(
            spec(slug),
            batch.logits,
            batch.labels,
            sample_weights=weights,
            outputs=ROW_OUTPUTS,
            options=options,
        )
        assert result.loss == pytest.approx(float((weights * rows).sum()), rel=1e-12)
        torch.testing.assert_close(gradient_of(result), weights[:, None] * slopes)
