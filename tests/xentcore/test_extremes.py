"""Inputs at the edge: large offsets, infinities, NaN, nothing at all, one class, tiny and huge."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.xentcore.conftest import ask, assert_exact, draw, name_of, spec
from tests.xentcore.oracle import (
    CASES,
    Case,
    RowLoss,
    gradients,
    losses,
    sigmoid_loss,
    softmax_adjusted_loss,
    softmax_focal_loss,
    softmax_margin_loss,
)
from xentcore import (
    OUTPUTS,
    InvalidSetting,
    LabelKind,
    NonFinite,
    Options,
    Output,
    Result,
    Spec,
    find_variant,
)
from xentcore.options import Family, NonFinitePolicy

INF, NAN = math.inf, math.nan
ROW_VALUES = Options(reduction="none")
SOFTMAX = [
    pytest.param(spec("sparse"), id="sparse"),
    pytest.param(spec("weighted", class_weights=(0.5, 1.0, 2.0)), id="weighted"),
    pytest.param(spec("label-smoothing"), id="label-smoothing"),
    pytest.param(spec("label-smoothing", spread="others", smoothing=0.9), id="smoothing-others"),
    pytest.param(spec("focal"), id="focal"),
    pytest.param(spec("focal", gamma=0.5, alpha=(0.5, 1.0, 2.0)), id="focal-alpha"),
    pytest.param(spec("temperature", temperature=0.3), id="temperature"),
    pytest.param(spec("logit-adjusted", class_prior=(0.7, 0.2, 0.1)), id="logit-adjusted"),
    pytest.param(spec("balanced-softmax", class_counts=(90, 9, 1)), id="balanced-softmax"),
    pytest.param(spec("ldam", class_counts=(90, 9, 1)), id="ldam"),
]
SIGMOID = [
    pytest.param(spec("binary"), id="binary"),
    pytest.param(spec("binary", positive_weights=3.0), id="binary-positive"),
    pytest.param(spec("focal", activation="sigmoid"), id="focal"),
    pytest.param(spec("focal", activation="sigmoid", gamma=0.5, alpha=0.25), id="focal-alpha"),
    # With a margin the loss of a negative is finite at +inf: see the tests of infinity below.
    pytest.param(spec("asymmetric", gamma_pos=0.5, margin=0.0), id="asymmetric"),
    pytest.param(spec("quality-focal"), id="quality-focal"),
    pytest.param(spec("quality-focal", beta=0.5), id="quality-focal-0.5"),
]
POLICIES: tuple[NonFinitePolicy, ...] = ("exclude", "reject", "propagate")
# Rows 0 and 2 are ordinary; what a test is about stands between them.
ORDINARY = ((0.5, -1.0, 2.0), (1.5, 0.25, -3.0))
LABELS = torch.tensor([2, 1, 0])


def around(row: tuple[float, ...]) -> Tensor:
    return torch.tensor([ORDINARY[0], row, ORDINARY[1]])


def gradient_of(result: Result) -> Tensor:
    assert result.gradient is not None
    return result.gradient


def per_sample_of(result: Result) -> Tensor:
    assert result.per_sample is not None
    return result.per_sample


def column(result: Result, name: str) -> Tensor:
    assert result.per_class is not None
    return result.per_class[name]


def codes(result: Result) -> set[str]:
    return {diagnostic.code for diagnostic in result.diagnostics}


def without_the_middle_row(asked: Spec, logits: Tensor, labels: Tensor = LABELS) -> Result:
    kept = torch.tensor([0, 2])
    return ask(asked, logits[kept], labels[kept], outputs=set(OUTPUTS) - {"row_statistics"})


def numbers(value: object) -> Iterator[float]:
    """Yield every number of an answer."""
    if isinstance(value, Tensor):
        yield from value.double().flatten().tolist()
    elif isinstance(value, float):
        yield value
    for part in parts(value):
        yield from numbers(part)


def parts(value: object) -> Iterable[object]:
    """Return what a column set, a list of rows or a document consists of."""
    if isinstance(value, Mapping):
        return value.values()
    if is_dataclass(value):
        return [getattr(value, declared.name) for declared in fields(value)]
    return value if isinstance(value, tuple) else ()


def assert_same(found: Result, expected: Result) -> None:
    """Check that two answers agree in everything that is summed over rows."""
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    assert found.reduction.sum == pytest.approx(expected.reduction.sum, rel=1e-12)
    assert found.reduction.denominator == pytest.approx(expected.reduction.denominator, rel=1e-12)
    assert found.rows.evaluated == expected.rows.evaluated
    for name in ("per_class", "calibration", "distribution"):
        pair = getattr(found, name), getattr(expected, name)
        found_numbers, expected_numbers = (list(numbers(value)) for value in pair)
        assert found_numbers == pytest.approx(expected_numbers, rel=1e-12, nan_ok=True)
    assert found.hardest is not None
    assert expected.hardest is not None
    assert [row.loss for row in found.hardest] == [row.loss for row in expected.hardest]


# Offsets


def family_of(case: Case, kind: LabelKind) -> Family:
    return find_variant(case.slug).family(case.spec.settings, kind)


SOFTMAX_CASES = [
    (case, kind)
    for case in CASES
    for kind in case.labels
    if family_of(case, kind) == "softmax" and find_variant(case.slug).shift_invariant
]


@pytest.mark.parametrize(
    ("offset", "dtype", "step"),
    [
        (1e4, torch.float32, 0.25),
        (-1e6, torch.float32, 0.25),
        (3e7, torch.float32, 4.0),
        (3e7, torch.float64, 0.25),
        (1e4, torch.float16, 8.0),
    ],
    ids=name_of,
)
@pytest.mark.parametrize(("case", "kind"), SOFTMAX_CASES, ids=name_of)
def test_a_common_offset_changes_nothing(
    case: Case, kind: str, offset: float, dtype: torch.dtype, step: float
) -> None:
    batch = draw(kind, 12, dtype, ranks=case.ranks)
    logits = (batch.logits.double() / step).round() * step
    moved = (logits + offset).to(dtype)
    assert torch.equal(moved.double() - offset, logits)  # nothing was rounded
    results = [
        ask(case.spec, z, batch.labels, outputs={"per_sample", "gradient", "per_class"})
        for z in (logits.to(dtype), moved)
    ]
    still, shifted = results
    assert shifted.loss == still.loss
    assert torch.equal(per_sample_of(shifted), per_sample_of(still))
    assert torch.equal(gradient_of(shifted), gradient_of(still))
    assert list(numbers(shifted.per_class)) == pytest.approx(
        list(numbers(still.per_class)), rel=0, nan_ok=True
    )


# Logits of -inf


@pytest.mark.parametrize(
    "asked", [spec("sparse"), spec("focal"), spec("focal", gamma=0.5)], ids=name_of
)
def test_a_class_of_minus_infinity_that_is_not_the_label_counts_as_absent(asked: Spec) -> None:
    logits = around((-INF, 1.0, 0.5))
    result = ask(asked, logits, LABELS, outputs={"per_sample", "gradient"})
    two = ask(asked, logits[1:2, 1:], torch.tensor([0]))
    assert per_sample_of(result)[1].item() == two.reduction.sum
    assert gradient_of(result)[1, 0].item() == 0
    assert result.rows.infinite == 0


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ((0.0, 1.0, 0.0), spec("categorical")),
        ((0.0, 0.25, 0.75), spec("categorical")),
        ((0.0, 0.25, 0.75), spec("focal", gamma=0.5)),
        ((0.0, 0.25, 0.75), spec("focal", gamma=0.0)),
        ((0.0, 0.25, 0.75), spec("label-smoothing", class_weights=(0.0, 1.0, 2.0))),
        ((0.0, 1.0, 0.0), spec("label-smoothing", class_weights=(0.0, 1.0, 2.0))),
        (
            (0.0, 1.0, 0.0),
            spec("label-smoothing", class_weights=(0.0, 1.0, 2.0), spread="others", smoothing=0.9),
        ),
        ((0.5, 0.25, 0.25), spec("weighted", class_weights=(0.0, 1.0, 2.0))),
        ((1.0, 0.0, 0.0), spec("weighted", class_weights=(0.0, 1.0, 2.0))),
        ((0.5, 0.25, 0.25), spec("focal", alpha=(0.0, 1.0, 2.0))),
        ((1.0, 0.0, 0.0), spec("focal", alpha=(0.0, 1.0, 2.0))),
    ],
    ids=name_of,
)
def test_a_class_of_minus_infinity_without_mass_contributes_nothing(
    target: tuple[float, ...], asked: Spec
) -> None:
    logits = torch.tensor([[-INF, 1.0, 0.5]])
    nearly = torch.tensor([[-1e4, 1.0, 0.5]])  # p = 0 in float32 as well, and t*log p is 0
    labels = torch.tensor([target])
    outputs = set(OUTPUTS)
    result = ask(asked, logits, labels, outputs=outputs, options=Options(reduction="sum"))
    expected = ask(asked, nearly, labels, outputs=outputs, options=Options(reduction="sum"))
    assert result.rows.evaluated == 1
    assert result.loss == expected.loss
    assert torch.equal(gradient_of(result), gradient_of(expected))
    assert column(result, "loss_sum").tolist() == column(expected, "loss_sum").tolist()


@pytest.mark.parametrize("asked", SOFTMAX)
class TestALabelOnMinusInfinity:
    LOGITS = around((0.5, -INF, 1.0))

    def test_is_excluded_and_counted(self, asked: Spec, device: torch.device) -> None:
        outputs = set(OUTPUTS)
        result = ask(asked, self.LOGITS, LABELS, outputs=outputs, device=device)
        assert_same(result, without_the_middle_row(asked, self.LOGITS))
        assert (result.rows.infinite, result.rows.nonfinite, result.rows.evaluated) == (1, 0, 2)
        assert per_sample_of(result)[1].item() == INF
        assert result.row_status is not None
        assert result.row_status.tolist() == [0, 3, 0]
        assert gradient_of(result)[1].tolist() == [0, 0, 0]
        assert "infinite_loss" in codes(result)

    def test_is_named_under_reject(self, asked: Spec) -> None:
        with pytest.raises(NonFinite, match=r"row \(1,\)") as caught:
            ask(asked, self.LOGITS, LABELS, options=Options(nonfinite="reject"))
        assert caught.value.pointer == "/labels/1"

    def test_makes_the_loss_infinite_under_propagate(self, asked: Spec) -> None:
        result = ask(asked, self.LOGITS, LABELS, options=Options(nonfinite="propagate"))
        assert result.loss == INF
        assert result.rows.infinite == 1


@pytest.mark.parametrize("kind", ["one_hot", "probabilities"])
def test_a_distribution_with_mass_on_minus_infinity_is_infinite(kind: str) -> None:
    targets = {"one_hot": [0.0, 1.0, 0.0], "probabilities": [0.5, 1e-6, 0.5 - 1e-6]}
    labels = torch.tensor([[0.0, 0.0, 1.0], targets[kind], [1.0, 0.0, 0.0]])
    logits = around((0.5, -INF, 1.0))
    result = ask(spec("categorical"), logits, labels, outputs=set(OUTPUTS))
    assert result.rows.infinite == 1
    assert_same(result, without_the_middle_row(spec("categorical"), logits, labels))


def test_smoothing_onto_minus_infinity_is_infinite() -> None:
    logits = around((-INF, 0.5, 1.0))
    result = ask(spec("label-smoothing"), logits, LABELS)
    assert result.rows.infinite == 1
    assert_same_sum(result, without_the_middle_row(spec("label-smoothing"), logits))


def assert_same_sum(found: Result, expected: Result) -> None:
    assert found.reduction == expected.reduction


@pytest.mark.parametrize("asked", SOFTMAX)
class TestARowOfMinusInfinityOnly:
    LOGITS = around((-INF, -INF, -INF))

    def test_is_excluded_and_poisons_nothing(self, asked: Spec) -> None:
        result = ask(asked, self.LOGITS, LABELS, outputs=set(OUTPUTS))
        assert_same(result, without_the_middle_row(asked, self.LOGITS))
        assert result.rows.infinite + result.rows.nonfinite == 1
        assert gradient_of(result)[1].tolist() == [0, 0, 0]

    def test_is_named_under_reject(self, asked: Spec) -> None:
        with pytest.raises(NonFinite, match="1"):
            ask(asked, self.LOGITS, LABELS, options=Options(nonfinite="reject"))

    def test_makes_the_loss_not_finite_under_propagate(self, asked: Spec) -> None:
        result = ask(asked, self.LOGITS, LABELS, options=Options(nonfinite="propagate"))
        assert result.loss is not None
        assert not math.isfinite(result.loss)


# NaN and +inf


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("asked", SOFTMAX)
class TestARowWithNaNOrPlusInfinity:
    def test_is_excluded_and_counted(self, asked: Spec, bad: float, device: torch.device) -> None:
        logits = around((0.5, 1.0, bad))
        result = ask(asked, logits, LABELS, outputs=set(OUTPUTS), device=device)
        assert_same(result, without_the_middle_row(asked, logits))
        assert (result.rows.infinite, result.rows.nonfinite, result.rows.evaluated) == (0, 1, 2)
        assert math.isnan(per_sample_of(result)[1].item())
        assert result.row_status is not None
        assert result.row_status.tolist() == [0, 2, 0]
        assert gradient_of(result)[1].tolist() == [0, 0, 0]
        assert "nonfinite" in codes(result)

    def test_is_named_with_its_class_under_reject(self, asked: Spec, bad: float) -> None:
        logits = around((0.5, 1.0, bad))
        with pytest.raises(NonFinite, match=r"position \(1, 2\)") as caught:
            ask(asked, logits, LABELS, options=Options(nonfinite="reject"))
        assert caught.value.pointer == "/logits/1/2"

    def test_is_not_hidden_under_propagate(self, asked: Spec, bad: float) -> None:
        logits = around((0.5, 1.0, bad))
        options = Options(nonfinite="propagate")
        result = ask(asked, logits, LABELS, outputs=set(OUTPUTS), options=options)
        assert result.loss is not None
        assert not math.isfinite(result.loss)
        assert result.rows.nonfinite == 1
        gradient = gradient_of(result)
        assert not gradient[1].isfinite().all()
        assert gradient[::2].isfinite().all()


@pytest.mark.parametrize("asked", SIGMOID)
class TestASigmoidRowWithNaN:
    LOGITS = around((0.5, NAN, 1.0))
    LABELS = torch.tensor([[1, 0, 1], [1, 0, 0], [0, 0, 1]])
    OUTPUTS = frozenset(OUTPUTS) - {"row_statistics"}

    def test_is_excluded_and_counted(self, asked: Spec) -> None:
        result = ask(asked, self.LOGITS, self.LABELS, outputs=self.OUTPUTS)
        assert_same(result, without_the_middle_row(asked, self.LOGITS, self.LABELS))
        assert (result.rows.nonfinite, result.rows.evaluated) == (1, 2)
        assert gradient_of(result)[1].tolist() == [0, 0, 0]

    def test_is_named_under_reject(self, asked: Spec) -> None:
        with pytest.raises(NonFinite, match=r"\(1, 1\)"):
            ask(asked, self.LOGITS, self.LABELS, options=Options(nonfinite="reject"))

    def test_makes_the_loss_nan_under_propagate(self, asked: Spec) -> None:
        options = Options(nonfinite="propagate")
        result = ask(asked, self.LOGITS, self.LABELS, outputs=self.OUTPUTS, options=options)
        assert result.loss is not None
        assert math.isnan(result.loss)


# Ignored rows, nothing to evaluate


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("content", [NAN, INF, -INF, 1e38])
@pytest.mark.parametrize("asked", SOFTMAX)
def test_an_ignored_row_contributes_nothing_whatever_it_holds(
    asked: Spec, content: float, policy: NonFinitePolicy
) -> None:
    logits = around((content, content, 0.0))
    labels = torch.tensor([2, -100, 0])
    options = Options(nonfinite=policy)
    result = ask(asked, logits, labels, outputs=set(OUTPUTS), options=options)
    assert_same(result, without_the_middle_row(asked, logits))
    assert (result.rows.ignored, result.rows.nonfinite, result.rows.infinite) == (1, 0, 0)
    assert gradient_of(result)[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("content", [NAN, INF, -INF])
@pytest.mark.parametrize("asked", SIGMOID)
def test_an_ignored_sigmoid_row_contributes_nothing_whatever_it_holds(
    asked: Spec, content: float
) -> None:
    logits = around((content, content, 0.0))
    labels = torch.tensor([[1, 0, 1], [-100, -100, -100], [0, 0, 1]])
    outputs = set(OUTPUTS) - {"row_statistics"}
    # An ignored row keeps labels from looking like 0 and 1 alone: their kind is stated.
    options = Options(label_kind="multi_hot")
    result = ask(asked, logits, labels, outputs=outputs, options=options)
    assert_same(result, without_the_middle_row(asked, logits, labels))
    assert result.rows.ignored == 1
    assert gradient_of(result)[1].tolist() == [0, 0, 0]


def assert_nothing_was_evaluated(result: Result, undefined: str) -> None:
    assert (result.loss, result.undefined) == (None, undefined)
    assert result.reduction.sum == 0
    assert (gradient_of(result) == 0).all()


def assert_no_rows(result: Result) -> None:
    assert_nothing_was_evaluated(result, "no_rows")
    assert result.rows.evaluated == 0
    assert "nothing_evaluated" in codes(result)
    assert result.hardest == ()
    assert result.calibration is not None
    assert (result.calibration.ece, result.calibration.brier) == (None, None)
    assert result.distribution is not None
    assert (result.distribution.minimum, result.distribution.p99) == (None, None)
    assert result.distribution.count.tolist() == []
    assert not column(result, "support").any()
    for name in ("loss_mean", "recall", "mean_probability", "gradient_norm_mean", "loss_share"):
        assert column(result, name).isnan().all()
    for name in ("loss_sum", "weight", "predicted", "gradient_sum"):
        assert (column(result, name) == 0).all()


@pytest.mark.parametrize(
    "asked", [*SOFTMAX, spec("weighted", class_weights="balanced")], ids=name_of
)
def test_all_rows_ignored_is_an_answer(asked: Spec) -> None:
    logits = torch.tensor([[NAN, 0.0, 1.0], [INF, 2.0, 3.0]])
    result = ask(asked, logits, torch.tensor([-100, -100]), outputs=set(OUTPUTS))
    assert_no_rows(result)
    assert result.classes == 3
    assert (result.rows.total, result.rows.ignored) == (2, 2)


def test_all_rows_excluded_is_an_answer() -> None:
    logits = torch.tensor([[NAN, 0.0, 1.0], [-INF, 2.0, 3.0]])
    result = ask(spec("sparse"), logits, torch.tensor([0, 0]), outputs=set(OUTPUTS))
    assert_no_rows(result)
    assert (result.rows.nonfinite, result.rows.infinite) == (1, 1)


EMPTY: list[Any] = [
    pytest.param((0, 3), (0,), id="no-rows"),
    pytest.param((0, 3), (0, 3), id="no-rows-one-hot"),
    pytest.param((0, 3, 7), (0, 7), id="no-images"),
    pytest.param((2, 3, 0), (2, 0), id="no-pixels"),
    pytest.param((2, 3, 4, 0), (2, 4, 0), id="no-columns"),
]


@pytest.mark.parametrize(("shape", "label_shape"), EMPTY)
@pytest.mark.parametrize("asked", [*SOFTMAX, spec("binary"), spec("categorical")], ids=name_of)
def test_an_empty_batch_is_an_answer_with_its_shapes(
    asked: Spec, shape: tuple[int, ...], label_shape: tuple[int, ...]
) -> None:
    labels = torch.empty(label_shape, dtype=torch.int64)
    outputs = set(OUTPUTS) - ({"row_statistics"} if asked.variant == "binary" else set())
    result = ask(asked, torch.empty(shape), labels, outputs=outputs)
    assert_no_rows(result)
    assert result.rows.total == 0
    assert result.classes == 3
    assert len(column(result, "support")) == 3
    assert gradient_of(result).shape == shape
    assert per_sample_of(result).numel() == 0


@pytest.mark.parametrize("shape", [(0,), (0, 1)])
@pytest.mark.parametrize("asked", [spec("binary"), spec("focal"), spec("sparse")], ids=name_of)
def test_an_empty_vector_is_an_answer(asked: Spec, shape: tuple[int, ...]) -> None:
    outputs = set(OUTPUTS) - {"row_statistics"}
    result = ask(asked, torch.empty(shape), torch.empty(0), outputs=outputs)
    assert_no_rows(result)
    assert gradient_of(result).shape == shape


# Weights


def test_with_one_class_present_class_weights_cancel() -> None:
    logits, labels = draw("integer", 8, torch.float64).logits, torch.full((8,), 3)
    weighted = spec("sparse", class_weights=(0.5, 1.0, 2.0, 7.0, 9.0))
    result = ask(weighted, logits, labels, outputs={"per_class"})
    assert result.loss == pytest.approx(ask(spec("sparse"), logits, labels).loss, rel=1e-12)
    assert {"single_class", "weights_cancel", "absent_classes"} <= codes(result)
    assert column(result, "support").tolist() == [0, 0, 0, 8, 0]
    assert column(result, "loss_mean").isnan().tolist() == [True, True, True, False, True]


@pytest.mark.parametrize(
    "asked",
    [
        spec("sparse", class_weights=(0.0, 0.0, 0.0, 0.0, 0.0)),
        spec("weighted", class_weights=(0.0, 0.0, 0.0, 0.0, 0.0)),
        spec("label-smoothing", class_weights=(0.0, 0.0, 0.0, 0.0, 0.0)),
    ],
    ids=name_of,
)
def test_without_any_weight_there_is_no_mean_and_no_gradient(asked: Spec) -> None:
    batch = draw("integer", 8, torch.float32)
    result = ask(asked, batch.logits, batch.labels, outputs={"gradient"})
    assert_nothing_was_evaluated(result, "zero_weight")
    assert result.rows.evaluated == 8


def test_weightless_labels_leave_no_mean_although_other_classes_weigh() -> None:
    batch = draw("integer", 8, torch.float32)
    asked = spec("sparse", class_weights=(1.0, 1.0, 0.0, 1.0, 1.0))
    result = ask(asked, batch.logits, torch.full((8,), 2), outputs={"gradient"})
    assert_nothing_was_evaluated(result, "zero_weight")


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES])
def test_sample_weights_of_zero_everywhere_leave_no_mean(case: Case) -> None:
    batch = draw(case.labels[0], 4, torch.float32, ranks=case.ranks)
    options = Options(normaliser="weights")
    result = ask(
        case.spec,
        batch.logits,
        batch.labels,
        sample_weights=torch.zeros(4),
        outputs={"gradient"},
        options=options,
    )
    assert_nothing_was_evaluated(result, "zero_weight")


def test_a_weight_that_float32_cannot_hold_is_refused_where_it_is_needed() -> None:
    asked = spec("sparse", class_weights=(1e39, 1.0))
    logits, labels = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1])
    with pytest.raises(InvalidSetting, match="largest number"):
        ask(asked, logits, labels)
    found = ask(asked, logits.double(), labels).loss
    assert found == pytest.approx(math.log1p(math.e), rel=1e-12)


def test_weights_of_zero_have_a_mean_over_rows() -> None:
    batch = draw("integer", 4, torch.float32)
    asked = spec("sparse", class_weights=(0.0,) * 5)
    result = ask(asked, batch.logits, batch.labels, options=Options(normaliser="rows"))
    assert (result.loss, result.undefined) == (0.0, None)


@pytest.mark.parametrize("row", [(0.5, -INF, 1.0), (-INF, -INF, -INF)], ids=["label", "all"])
@pytest.mark.parametrize("asked", SOFTMAX)
def test_a_sample_weight_of_zero_silences_an_infinite_row(
    asked: Spec, row: tuple[float, ...]
) -> None:
    logits, weights = around(row), torch.tensor([1.0, 0.0, 2.0])
    outputs = set(OUTPUTS) - {"row_statistics"}
    result = ask(asked, logits, LABELS, sample_weights=weights, outputs=outputs)
    kept = torch.tensor([0, 2])
    expected = ask(asked, logits[kept], LABELS[kept], sample_weights=weights[kept])
    assert result.reduction == expected.reduction
    assert gradient_of(result)[1].tolist() == [0, 0, 0]
    assert column(result, "gradient_sum").isfinite().all()
    assert column(result, "mean_probability")[[0, 2]].isfinite().all()
    assert column(result, "loss_sum").isfinite().all()
    assert result.calibration is not None
    assert result.calibration.ece is not None
    assert math.isfinite(result.calibration.ece)


# Focal


@pytest.mark.parametrize("gap", [5.0, 20.0, 50.0, 100.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=name_of)
def test_focal_of_gamma_below_1_has_a_finite_gradient_where_p_is_nearly_1(
    gap: float, dtype: torch.dtype
) -> None:
    logits = torch.tensor([[gap, 0.0, 0.0]], dtype=dtype)
    options = Options(gradient_dtype=torch.float64)
    asked = spec("focal", gamma=0.5)
    found = ask(asked, logits, torch.tensor([0]), outputs={"gradient"}, options=options)
    exact = gradients(softmax_focal_loss(gamma=0.5), logits, torch.tensor([[1.0, 0.0, 0.0]]))
    assert gradient_of(found).isfinite().all()
    assert_exact(gradient_of(found), exact, dtype)


@pytest.mark.parametrize("gap", [5.0, 20.0, 50.0, 100.0, 1e4, INF])
@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
def test_sigmoid_focal_has_a_finite_gradient_where_p_is_nearly_1(gap: float, gamma: float) -> None:
    logits = torch.tensor([gap, -gap])
    asked = spec("focal", gamma=gamma, activation="sigmoid")
    result = ask(asked, logits, torch.tensor([1, 0]), outputs={"gradient"})
    up, down = gradient_of(result).tolist()
    assert -1e-2 < up <= 0 <= down < 1e-2
    assert up == -down


@pytest.mark.parametrize("kind", ["integer", "one_hot"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=name_of)
def test_focal_of_gamma_0_is_cross_entropy_to_the_last_bit(kind: str, dtype: torch.dtype) -> None:
    batch = draw(kind, 24, dtype)
    plain = spec({"integer": "sparse", "one_hot": "categorical"}[kind])
    outputs: set[Output] = {"per_sample", "gradient"}
    focal = ask(spec("focal", gamma=0.0), batch.logits, batch.labels, outputs=outputs)
    expected = ask(plain, batch.logits, batch.labels, outputs=outputs)
    assert focal.loss == expected.loss
    assert torch.equal(per_sample_of(focal), per_sample_of(expected))
    assert torch.equal(gradient_of(focal), gradient_of(expected))


@pytest.mark.parametrize("kind", ["multi_hot", "binary"])
def test_sigmoid_focal_of_gamma_0_is_binary_to_the_last_bit(kind: str) -> None:
    batch = draw(kind, 24, torch.float32)
    outputs: set[Output] = {"per_sample", "gradient"}
    focal = ask(spec("focal", gamma=0.0), batch.logits, batch.labels, outputs=outputs)
    expected = ask(spec("binary"), batch.logits, batch.labels, outputs=outputs)
    assert torch.equal(per_sample_of(focal), per_sample_of(expected))
    assert torch.equal(gradient_of(focal), gradient_of(expected))


# Precision


@pytest.mark.parametrize("asked", [spec("sparse"), spec("focal", gamma=0.0)], ids=name_of)
def test_a_bfloat16_gradient_at_probability_0_999_is_not_0(asked: Spec) -> None:
    logits = torch.tensor([[6.90625, 0.0]], dtype=torch.bfloat16)
    result = ask(asked, logits, torch.tensor([0]), outputs={"gradient"})
    q = 1 / (1 + math.exp(6.90625))
    assert q == pytest.approx(0.001, rel=1e-3)
    expected = torch.tensor([[-q, q]]).bfloat16()
    assert torch.equal(gradient_of(result), expected)


def test_a_bfloat16_sigmoid_gradient_at_probability_0_999_is_not_0() -> None:
    logits = torch.tensor([6.90625], dtype=torch.bfloat16)
    result = ask(spec("binary"), logits, torch.tensor([1]), outputs={"gradient"})
    expected = torch.tensor([-1 / (1 + math.exp(6.90625))]).bfloat16()
    assert torch.equal(gradient_of(result), expected)


@pytest.mark.parametrize(
    "asked", [spec("sparse"), spec("label-smoothing", smoothing=0.0), spec("focal")], ids=str
)
def test_a_float16_mean_of_20000_large_losses_does_not_overflow(asked: Spec) -> None:
    logits = torch.tensor([[0.0, 60_000.0]], dtype=torch.float16).expand(20_000, 2)
    labels = torch.zeros(20_000, dtype=torch.int64)
    result = ask(asked, logits, labels, outputs={"gradient"})
    assert result.loss == 60_000
    assert result.reduction.sum == 1.2e9
    assert_exact(
        gradient_of(result)[0].double(), torch.tensor([-5e-5, 5e-5]).half().double(), torch.float64
    )


def test_a_float16_mean_of_20000_sigmoid_losses_does_not_overflow() -> None:
    logits = torch.full((20_000, 2), -60_000.0, dtype=torch.float16)
    result = ask(spec("binary"), logits, torch.ones(20_000, 2))
    assert result.loss == 60_000


@pytest.mark.parametrize("gap", [9.0, 17.5, 27.625, 60.0, 85.0])
@pytest.mark.parametrize(
    ("asked", "labels"),
    [
        (spec("sparse"), torch.tensor([0])),
        (spec("categorical"), torch.tensor([[1, 0, 0]])),
        (spec("focal", gamma=0.0), torch.tensor([0])),
    ],
    ids=name_of,
)
def test_a_tiny_loss_keeps_all_its_digits_in_float32(
    asked: Spec, labels: Tensor, gap: float
) -> None:
    # At 27.625 the loss is 2e-12: log(sum exp) of float32 would answer 0.
    logits = torch.tensor([[gap, 0.0, 0.0]])
    result = ask(asked, logits, labels)
    assert result.loss == pytest.approx(math.log1p(2 * math.exp(-gap)), rel=5e-7, abs=0)


@pytest.mark.parametrize("gap", [9.0, 17.5, 27.625, 60.0, 85.0])
def test_a_tiny_sigmoid_loss_keeps_all_its_digits_in_float32(gap: float) -> None:
    result = ask(spec("binary"), torch.tensor([gap, -gap]), torch.tensor([1, 0]))
    assert result.loss == pytest.approx(math.log1p(math.exp(-gap)), rel=5e-7, abs=0)


@pytest.mark.parametrize("gap", [9.0, 17.5, 27.625, 60.0, 85.0])
def test_a_tiny_gradient_keeps_all_its_digits_in_float32(gap: float) -> None:
    logits = torch.tensor([[gap, 0.0, 0.0]])
    result = ask(spec("sparse"), logits, torch.tensor([0]), outputs={"gradient"})
    p = math.exp(-gap) / (1 + 2 * math.exp(-gap))
    assert gradient_of(result)[0].tolist() == pytest.approx([-2 * p, p, p], rel=5e-7, abs=0)


# Temperature


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 1e3, 1e30, 1e300])
def test_an_extreme_temperature_overflows_nowhere(temperature: float, dtype: torch.dtype) -> None:
    rows = [[3e38, 3e38, -3e38], [0.0, 1.0, 2.0], [5.0, 5.0, 5.0]]
    logits = torch.tensor(rows, dtype=dtype)
    asked, labels = spec("temperature", temperature=temperature), torch.tensor([0, 2, 1])
    options = Options(reduction="sum", gradient_dtype=torch.float64)
    result = ask(asked, logits, labels, outputs=set(OUTPUTS), options=options)
    # The labels are the largest of their rows.
    shares = [[math.exp((z - max(row)) / temperature) for z in row] for row in rows]
    expected = torch.tensor([math.log(sum(row)) for row in shares], dtype=torch.float64)
    assert_exact(per_sample_of(result), expected, dtype)
    gradient = gradient_of(result)
    assert gradient.isfinite().all()
    torch.testing.assert_close(
        gradient[2] * temperature,
        torch.tensor([1 / 3, -2 / 3, 1 / 3], dtype=torch.float64),
        rtol=2e-6,
        # Below the smallest float32 there is nothing left of 1/T.
        atol=1.0 if temperature > 1e40 and dtype == torch.float32 else 0.0,
    )


def test_a_loss_that_float32_cannot_hold_counts_as_infinite() -> None:
    asked, labels = spec("temperature", temperature=1e-30), torch.tensor([0])
    assert ask(asked, torch.tensor([[0.0, 1e9]]), labels).rows.infinite == 1
    doubled = ask(asked, torch.tensor([[0.0, 1e9]], dtype=torch.float64), labels)
    assert doubled.loss == pytest.approx(1e39)


# Priors and margins


@pytest.mark.parametrize("offset", [0.0, 3e7])
@pytest.mark.parametrize(
    ("asked", "oracle"),
    [
        (spec("logit-adjusted", class_prior=(1e-9, 1.0)), softmax_adjusted_loss((1e-9, 1.0))),
        (spec("balanced-softmax", class_counts=(3, 7)), softmax_adjusted_loss((3, 7))),
        (
            spec("logit-adjusted", tau=3.0, class_counts=(1, 10**9)),
            softmax_adjusted_loss((1, 10**9), 3.0),
        ),
        (spec("ldam", class_counts=(1, 16)), softmax_margin_loss((1, 16))),
        (
            spec("ldam", class_counts=(1, 16), scale=2.0, max_margin=30.0),
            softmax_margin_loss((1, 16), scale=2.0, largest=30.0),
        ),
    ],
    ids=name_of,
)
def test_an_offset_loses_nothing_of_what_the_inputs_hold(
    asked: Spec, oracle: RowLoss, offset: float
) -> None:
    # Differences that a prior or a margin all but cancels, where float32 would keep few digits.
    gaps = torch.arange(-64.0, 72.0, 4.0)
    logits = torch.stack([gaps, torch.zeros_like(gaps)], dim=1) + offset
    labels = torch.arange(len(gaps)) % 2
    targets = torch.nn.functional.one_hot(labels, 2)
    options = Options(reduction="sum", gradient_dtype=torch.float64)
    result = ask(asked, logits, labels, outputs={"per_sample", "gradient"}, options=options)
    assert_exact(per_sample_of(result), losses(oracle, logits, targets), torch.float32)
    assert_exact(gradient_of(result), gradients(oracle, logits, targets), torch.float32)


@pytest.mark.parametrize(
    "asked", [spec("logit-adjusted"), spec("balanced-softmax")], ids=lambda asked: asked.variant
)
def test_a_class_that_the_batch_does_not_hold_has_no_probability(asked: Spec) -> None:
    logits = torch.tensor([[0.0, 1.0, 9.0], [1.0, 0.5, 9.0], [2.0, 0.5, 9.0]])
    labels = torch.tensor([0, 1, 0])
    result = ask(asked, logits, labels, outputs={"gradient", "per_class", "per_sample"})
    assert gradient_of(result)[:, 2].tolist() == [0, 0, 0]
    assert column(result, "predicted")[2].item() == 0
    two = spec("balanced-softmax", class_counts=(2, 1))
    options = Options(reduction="none")
    expected = per_sample_of(ask(two, logits[:, :2], labels, options=options))
    assert torch.equal(per_sample_of(result), expected)


@pytest.mark.parametrize(
    "asked", [spec("logit-adjusted"), spec("balanced-softmax")], ids=lambda asked: asked.variant
)
def test_mass_on_a_class_that_the_batch_does_not_hold_is_infinite(asked: Spec) -> None:
    # Class 2 is in no row the most probable: it counts as absent.
    labels = torch.tensor([[0.6, 0.1, 0.3], [0.2, 0.8, 0.0]])
    logits = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.5, 0.0]])
    result = ask(asked, logits, labels)
    assert (result.rows.infinite, result.rows.evaluated) == (1, 1)
    assert "infinite_loss" in codes(result)


def test_a_row_with_nothing_but_absent_classes_is_infinite() -> None:
    logits = torch.tensor([[-INF, 1.0], [0.5, 1.0]])
    asked = spec("balanced-softmax")
    result = ask(asked, logits, torch.tensor([0, 0]), outputs=set(OUTPUTS))
    assert (result.rows.infinite, result.rows.evaluated) == (1, 1)
    assert result.row_statistics is not None
    assert result.row_statistics["max_logit"].tolist() == [-INF, 0.5]
    assert gradient_of(result).tolist() == [[0, 0], [0, 0]]


def test_without_tau_not_even_an_absent_class_is_adjusted() -> None:
    logits, labels = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([0])
    plain = ask(spec("sparse"), logits, labels)
    assert ask(spec("logit-adjusted", tau=0.0), logits, labels).loss == plain.loss


def test_priors_may_be_as_far_apart_as_float64_reaches() -> None:
    asked = spec("logit-adjusted", class_prior=(1e308, 1e308, 5e-324))
    result = ask(asked, torch.tensor([[0.0, 0.0, 1456.0]]), torch.tensor([0]))
    third = math.exp(1456 + math.log(5e-324) - math.log(1e308))
    assert result.loss == pytest.approx(math.log(2 + third), rel=2e-6)


def test_a_label_far_ahead_of_its_margin_loses_nothing_and_one_far_behind_all() -> None:
    asked = spec("ldam", class_counts=(1, 1), scale=120.0)
    result = ask(asked, torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0]))
    assert result.reduction.sum == 120 * 9.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
def test_a_lead_at_the_end_of_the_arithmetic_leaves_no_nan(dtype: torch.dtype) -> None:
    # Probabilities that are just not 0, as 5e-324 is, and just 0.
    gaps = torch.arange(2.8, 25.0, 0.05, dtype=dtype)
    logits = torch.stack([gaps, torch.zeros_like(gaps), -gaps], dim=1)
    labels = torch.zeros(len(gaps), dtype=torch.int64)
    result = ask(spec("ldam"), logits, labels, outputs={"gradient", "per_sample", "per_class"})
    assert gradient_of(result).isfinite().all()
    assert (per_sample_of(result).diff() <= 0).all()
    assert column(result, "gradient_sum").isfinite().all()


# Sigmoid at infinity


def test_a_margin_bounds_the_loss_of_a_negative_even_at_infinity() -> None:
    asked, outputs = spec("asymmetric"), {*OUTPUTS} - {"row_statistics"}
    logits = torch.tensor([[INF, 3.4e38, 200.0], [-INF, 0.0, 0.0]])
    result = ask(asked, logits, torch.tensor([[0, 0, 0], [1, 0, 0]]), outputs=outputs)
    bound = 0.95**4 * -math.log(0.05)
    assert per_sample_of(result).tolist() == [pytest.approx(3 * bound, rel=2e-6), INF]
    assert gradient_of(result)[0].tolist() == [0, 0, 0]
    assert (result.rows.infinite, result.rows.evaluated) == (1, 1)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 4.0])
@pytest.mark.parametrize("margin", [0.0, 1e-300, 1e-45, 1e-6, 0.05, 0.9])
def test_asymmetric_is_finite_wherever_its_logits_are(gamma: float, margin: float) -> None:
    steps = [0.0, 1e-40, 1e-3, 3.0, 17.0, 88.0, 104.0, 1e4, 3.4e38]
    logits = torch.tensor([[sign * x for sign in (1, -1)] for x in steps])
    asked = spec("asymmetric", gamma_pos=gamma, gamma_neg=gamma, margin=margin)
    for target in (0, 1):
        labels = torch.full(logits.shape, target)
        options = Options(reduction="none", label_kind="multi_hot")
        result = ask(asked, logits, labels, outputs={"gradient"}, options=options)
        assert gradient_of(result).isfinite().all()
        assert per_sample_of(result).isfinite().all()
        bound = INF if target or not margin else -math.log(margin)
        assert (per_sample_of(result) <= 2 * bound * (1 + 1e-6)).all()


def test_asymmetric_ignores_what_its_margin_covers() -> None:
    p = torch.tensor([0.01, 0.049, 0.0501, 0.5])
    asked = spec("asymmetric", gamma_neg=0.0)
    result = ask(asked, p.logit(), torch.zeros(4), outputs={"gradient", "per_sample"})
    assert (per_sample_of(result) > 0).tolist() == [False, False, True, True]
    assert (gradient_of(result) > 0).tolist() == [False, False, True, True]


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
def test_quality_focal_at_its_target_has_no_slope(beta: float) -> None:
    asked, labels = spec("quality-focal", beta=beta), torch.full((2, 2), 0.5)
    result = ask(asked, torch.zeros(2, 2), labels, outputs={"gradient"})
    assert gradient_of(result).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("kind", ["multi_hot", "integer", "one_hot"])
def test_quality_focal_of_hard_labels_is_focal(kind: str) -> None:
    batch = draw(kind, 24, torch.float64)
    outputs: set[Output] = {"per_sample", "gradient"}
    found = ask(spec("quality-focal"), batch.logits, batch.labels, outputs=outputs)
    focal = ask(spec("focal", activation="sigmoid"), batch.logits, batch.labels, outputs=outputs)
    assert_exact(per_sample_of(found), per_sample_of(focal), torch.float64)
    assert_exact(gradient_of(found), gradient_of(focal), torch.float64)


def test_a_rank_above_an_infinite_threshold() -> None:
    logits = torch.tensor([[INF, -INF], [INF, -INF], [INF, -INF]])
    labels = torch.tensor([1, 0, 2])
    result = ask(spec("ordinal"), logits, labels, outputs={"gradient", "per_sample"})
    assert per_sample_of(result).tolist() == [0, INF, INF]
    assert gradient_of(result).tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("asked", SIGMOID)
class TestSigmoidAtInfinity:
    OUTPUTS = frozenset(OUTPUTS) - {"row_statistics"}

    def test_the_right_side_costs_nothing(self, asked: Spec) -> None:
        logits, labels = torch.tensor([[-INF, INF]]), torch.tensor([[0, 1]])
        result = ask(asked, logits, labels, outputs=self.OUTPUTS)
        assert result.loss == 0
        assert result.rows.evaluated == 1
        assert gradient_of(result).tolist() == [[0, 0]]
        assert all(not math.isnan(x) for x in numbers(result.hardest))

    @pytest.mark.parametrize(
        ("logit", "target"), [(-INF, 1.0), (-INF, 0.5), (-INF, 1e-25), (INF, 0.0), (INF, 0.5)]
    )
    def test_the_wrong_side_is_infinite(self, asked: Spec, logit: float, target: float) -> None:
        logits = torch.tensor([[1.0, 2.0], [logit, 0.5]])
        labels = torch.tensor([[1.0, 0.0], [target, 1.0]])
        result = ask(asked, logits, labels, outputs=self.OUTPUTS)
        assert result.rows.infinite == 1
        assert result.reduction.sum == ask(asked, logits[:1], labels[:1]).reduction.sum
        assert gradient_of(result)[1].tolist() == [0, 0]
        assert per_sample_of(result)[1].item() == INF

    def test_the_wrong_side_is_refused_under_reject(self, asked: Spec) -> None:
        with pytest.raises(NonFinite):
            ask(
                asked,
                torch.tensor([[-INF, 1.0]]),
                torch.tensor([[1, 0]]),
                options=Options(nonfinite="reject"),
            )

    def test_the_wrong_side_is_infinite_under_propagate(self, asked: Spec) -> None:
        options = Options(nonfinite="propagate")
        result = ask(asked, torch.tensor([[-INF, 1.0]]), torch.tensor([[1, 0]]), options=options)
        assert result.loss == INF


@pytest.mark.parametrize("logit", [INF, -INF])
def test_smoothed_binary_labels_are_infinite_on_both_sides(logit: float) -> None:
    labels = torch.tensor([0 if logit < 0 else 1])
    result = ask(spec("binary", smoothing=0.1), torch.tensor([logit]), labels)
    assert result.rows.infinite == 1


@pytest.mark.parametrize(
    "asked",
    [
        spec("binary", class_weights=(0.0, 1.0)),
        spec("binary", positive_weights=(0.0, 1.0)),
        spec("focal", activation="sigmoid", alpha=(0.0, 1.0)),
    ],
    ids=name_of,
)
def test_a_weightless_element_costs_nothing_even_at_infinity(asked: Spec) -> None:
    logits, labels = torch.tensor([[-INF, 1.0]]), torch.tensor([[1, 1]])
    result = ask(asked, logits, labels, outputs={"gradient"}, options=Options(reduction="sum"))
    expected = ask(asked, logits.clamp_min(-200), labels, options=Options(reduction="sum"))
    assert result.loss == pytest.approx(expected.loss, rel=1e-6)
    assert gradient_of(result)[0, 0].item() == 0


# Sizes


def test_a_row_of_a_million_classes_is_exact() -> None:
    logits = torch.randn(1, 1_000_003, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([999_999])
    result = ask(spec("sparse"), logits, label, outputs={"gradient", "row_statistics"})
    z = logits.double()
    assert result.loss == pytest.approx((z.logsumexp(1) - z[0, label]).item(), rel=2e-6)
    p = z.softmax(1)
    p[0, label] -= 1
    assert_exact(gradient_of(result).double(), p, torch.float32)
    assert result.row_statistics is not None
    assert result.row_statistics["el2n"].item() == pytest.approx(p.norm().item(), rel=2e-6)


def test_300000_rows_are_summed_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(300_000, 10, generator=generator)
    labels = torch.randint(10, (300_000,), generator=generator)
    result = ask(spec("sparse"), logits, labels, outputs={"per_class", "gradient"})
    z = logits.double()
    rows = z.logsumexp(1) - z.gather(1, labels[:, None])[:, 0]
    assert result.loss == pytest.approx(rows.mean().item(), rel=1e-7)
    sums = torch.zeros(10, dtype=torch.float64).index_add_(0, labels, rows)
    torch.testing.assert_close(column(result, "loss_sum"), sums, rtol=1e-6, atol=0)
    assert column(result, "support").sum().item() == 300_000
    total = gradient_of(result).double().sum(0)
    torch.testing.assert_close(column(result, "gradient_sum"), total, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", ["integer", "one_hot", "probabilities"])
def test_softmax_over_two_classes_is_a_sigmoid_of_the_difference(kind: str) -> None:
    logits = draw("multi_hot", 24, torch.float64).logits[:, :2]
    index = torch.arange(24) % 2
    one_hot = torch.nn.functional.one_hot(index, 2)
    soft = (one_hot + 0.5) / 2
    labels = {"integer": index, "one_hot": one_hot, "probabilities": soft}[kind]
    asked = spec("sparse" if kind == "integer" else "categorical")
    found = ask(asked, logits, labels, options=ROW_VALUES)
    target = (soft if kind == "probabilities" else one_hot)[:, 1:]
    expected = losses(sigmoid_loss(), (logits[:, 1] - logits[:, 0])[:, None], target)
    assert_exact(per_sample_of(found), expected, torch.float64)
