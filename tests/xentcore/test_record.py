"""What is recorded of an evaluation, against the definitions in float64."""

import math
from decimal import Decimal, localcontext

import pytest
import torch
from torch import Tensor

from tests.xentcore.conftest import spec
from xentcore import (
    VARIANTS,
    Evaluation,
    InvalidSetting,
    Options,
    Record,
    Recorded,
    Result,
    Spec,
    bucket_bounds,
)
from xentcore.options import Normaliser, Output

ROWS, CLASSES = 300, 7
RECORDS: tuple[Record | None, ...] = (None, "rows")


def _batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(ROWS, CLASSES, generator=generator, dtype=torch.float64) * 3
    labels = torch.randint(0, CLASSES - 1, (ROWS,), generator=generator)  # one class is absent
    weights = torch.rand(ROWS, generator=generator, dtype=torch.float64) * 2
    return logits, labels, weights


def _asked(slug: str) -> tuple[Tensor, Tensor, Tensor, Spec]:
    """Return a batch whose labels the variant takes, and its spec."""
    logits, labels, weights = _batch()
    kinds = VARIANTS[slug].label_kinds
    if "integer" not in kinds:
        one_hot = torch.nn.functional.one_hot(labels, CLASSES)
        labels = one_hot if "one_hot" in kinds else (logits > 1).long()
    settings = {"class_weights": "balanced"} if slug == "weighted" else {}
    return logits, labels, weights, spec(slug, **settings)


def _of(
    question: Spec, *batch: Tensor, record: Record = "rows", normaliser: Normaliser | None = None
) -> tuple[Recorded, Result]:
    logits, labels, *weights = batch
    evaluation = Evaluation.of(
        logits,
        labels,
        [question],
        sample_weights=weights[0] if weights else None,
        record=record,
        options=Options(normaliser=normaliser),
    )
    return evaluation.recorded()[0], evaluation.result()[0]


def _close(found: Tensor | float | None, expected: Tensor | float) -> None:
    assert found is not None
    torch.testing.assert_close(
        torch.as_tensor(found, dtype=torch.float64),
        torch.as_tensor(expected, dtype=torch.float64),
        rtol=1e-11,
        atol=1e-12,
    )


@pytest.mark.parametrize("normaliser", ["weights", "rows", "elements"])
def test_squares_of_the_softmax_family_are_those_of_the_rows(normaliser: Normaliser) -> None:
    logits, labels, weights = _batch()
    labels[5], logits[6, 0], logits[7, labels[7]] = -100, math.nan, -math.inf
    found, _ = _of(Spec("sparse"), logits, labels, weights, normaliser=normaliser)

    kept = torch.ones(ROWS, dtype=torch.bool)
    kept[5:8] = False
    loss = -logits.log_softmax(dim=1)[torch.arange(ROWS), labels.clamp(min=0)]
    x = (weights * loss)[kept]
    w = {"weights": weights[kept], "rows": torch.ones(len(x)), "elements": 7 * torch.ones(len(x))}
    w_r = w[normaliser].double()
    assert (found.rows.ignored, found.rows.nonfinite, found.rows.infinite) == (1, 1, 1)
    _close(found.reduction.sum, x.sum())
    _close(found.reduction.denominator, w_r.sum())
    _close(found.loss_square_sum, x.square().sum())
    _close(found.loss_weight_sum, (x * w_r).sum())
    _close(found.weight_square_sum, w_r.square().sum())
    _close(found.loss_min, x.min())
    _close(found.loss_max, x.max())
    assert found.row_losses is not None
    assert found.row_weights is not None
    assert found.row_classes is not None
    _close(found.row_losses[kept], x)
    assert found.row_losses[~kept].isnan().all()
    _close(found.row_weights[kept], w_r)
    assert (found.row_weights[~kept] == 0).all()
    assert found.row_classes[kept].equal(labels[kept])

    p = logits.softmax(dim=1)
    one_hot = torch.nn.functional.one_hot(labels.clamp(min=0), CLASSES).double()
    norm = (weights[:, None] * (p - one_hot)).norm(dim=1)[kept]
    brier = (p - one_hot).square().sum(dim=1)[kept]
    _close(found.brier_square_sum, brier.square().sum())
    for cls in range(CLASSES):
        of_class = labels[kept] == cls
        sums = {
            "support": of_class.sum(),
            "positives": of_class.sum(),
            "weight": w_r[of_class].sum(),
            "loss_sum": x[of_class].sum(),
            "loss_square_sum": x[of_class].square().sum(),
            "loss_weight_sum": (x * w_r)[of_class].sum(),
            "weight_square_sum": w_r[of_class].square().sum(),
            "gradient_norm_sum": norm[of_class].sum(),
            "gradient_norm_square_sum": norm[of_class].square().sum(),
        }
        for name, expected in sums.items():
            _close(found.class_sums[name][cls].double(), expected.double())


@pytest.mark.parametrize("normaliser", ["weights", "rows", "elements"])
def test_squares_of_the_sigmoid_family_are_those_of_rows_and_elements(
    normaliser: Normaliser,
) -> None:
    logits, _, weights = _batch()
    targets = (torch.rand(ROWS, CLASSES, generator=torch.Generator().manual_seed(1)) < 0.3).double()
    found, _ = _of(Spec("binary"), logits, targets, weights, normaliser=normaliser)

    element = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, targets, reduction="none"
    )
    element = weights[:, None] * element
    x = element.sum(dim=1)
    t_w = weights[:, None] * targets
    w = {"weights": t_w.sum(dim=1), "rows": torch.ones(ROWS), "elements": 7 * torch.ones(ROWS)}
    w_r = w[normaliser].double()
    w_e = t_w if normaliser == "weights" else torch.ones_like(t_w)
    slope = weights[:, None] * (logits.sigmoid() - targets)
    _close(found.loss_square_sum, x.square().sum())
    _close(found.loss_weight_sum, (x * w_r).sum())
    _close(found.weight_square_sum, w_r.square().sum())
    _close(found.class_sums["loss_square_sum"], element.square().sum(dim=0))
    _close(found.class_sums["loss_weight_sum"], (element * w_e).sum(dim=0))
    _close(found.class_sums["weight_square_sum"], w_e.square().sum(dim=0))
    _close(found.class_sums["gradient_norm_square_sum"], slope.square().sum(dim=0))
    assert found.class_sums["positives"].equal(targets.sum(dim=0).long())
    assert found.decisions == ROWS * CLASSES
    assert found.row_classes is not None
    assert (found.row_classes == -1).all()


@pytest.mark.parametrize("slug", sorted(VARIANTS))
def test_recording_changes_no_answer(slug: str) -> None:
    logits, labels, weights, question = _asked(slug)
    asked: frozenset[Output] = frozenset({"per_class", "distribution"})
    silent, evaluation = (
        Evaluation.of(
            logits.float(),
            labels,
            [question],
            sample_weights=weights,
            outputs=asked,
            record=record,
        )
        for record in RECORDS
    )
    plain, tracked = silent.result()[0], evaluation.result()[0]
    assert tracked.loss == plain.loss
    assert tracked.per_class is not None
    assert plain.per_class is not None
    for name, column in plain.per_class.items():
        torch.testing.assert_close(tracked.per_class[name], column, rtol=0, atol=0, equal_nan=True)
    assert tracked.calibration is None
    assert tracked.hardest is None
    assert tracked.per_sample is None
    (found,) = evaluation.recorded()
    assert found.reduction == plain.reduction


@pytest.mark.parametrize("slug", sorted(VARIANTS))
def test_the_prior_is_that_of_a_comparison(slug: str) -> None:
    logits, labels, weights, question = _asked(slug)
    evaluation = Evaluation.of(
        logits, labels, [question], sample_weights=weights, record="sums", compare=True
    )
    (found,) = evaluation.recorded()
    (compared,) = evaluation.comparison().variants
    expected = compared.prior_sum
    if expected is None or not 0 < expected < math.inf:
        assert found.prior_sum is None
    else:
        _close(found.prior_sum, expected)


def test_the_prior_of_cross_entropy_is_the_entropy_of_the_frequencies() -> None:
    logits, labels, weights = _batch()
    found, _ = _of(Spec("sparse"), logits, labels, weights)
    mass = torch.zeros(CLASSES, dtype=torch.float64).index_add(0, labels, weights)
    share = mass / mass.sum()
    _close(found.prior_sum, -(mass * share.clamp(min=1e-300).log()).sum())


@pytest.mark.parametrize("slug", ["sparse", "focal"])
@pytest.mark.parametrize("masses", [(1e12, 1e-9, 3e-9), (1e12, 1e12, 1e-9), (1e-9, 5.0, 1e12)])
def test_the_prior_keeps_its_digits_where_classes_are_rare(
    slug: str, masses: tuple[float, ...]
) -> None:
    labels = torch.arange(3)
    weights = torch.tensor(masses, dtype=torch.float64)
    logits = torch.zeros(3, CLASSES, dtype=torch.float64)
    found, _ = _of(Spec(slug), logits, labels, weights)
    gamma = 2 if slug == "focal" else 0
    with localcontext(prec=60):
        exact = [Decimal(mass) for mass in masses]
        shares = [mass / sum(exact) for mass in exact]
        expected = sum(
            mass * (1 - share) ** gamma * -share.ln()
            for mass, share in zip(exact, shares, strict=True)
        )
    assert found.prior_sum == pytest.approx(float(expected), rel=1e-14)


def test_one_class_and_distributions_have_no_prior() -> None:
    logits, labels, _ = _batch()
    assert _of(Spec("sparse"), logits, torch.zeros_like(labels))[0].prior_sum is None
    assert _of(Spec("categorical"), logits, logits.softmax(dim=1))[0].prior_sum is None


@pytest.mark.parametrize("record", ["sums", "rows"])
def test_parts_add_up(record: Record) -> None:
    logits, labels, weights = _batch()
    focal = Spec("focal")
    whole, _ = _of(focal, logits, labels, weights, record=record)
    evaluation = Evaluation([focal], record=record)
    other = Evaluation([focal], record=record)
    evaluation.update(logits[:100], labels[:100], weights[:100])
    other.update(logits[100:], labels[100:], weights[100:])
    evaluation.merge(other)
    (found,) = evaluation.recorded()
    _close(found.loss_square_sum, whole.loss_square_sum)
    _close(found.loss_weight_sum, whole.loss_weight_sum)
    _close(found.brier_square_sum, whole.brier_square_sum)
    _close(found.prior_sum, whole.prior_sum or math.nan)
    assert found.buckets.equal(whole.buckets)
    assert found.hardest == whole.hardest
    for name, column in whole.class_sums.items():
        _close(found.class_sums[name].double(), column.double())
    if record == "rows":
        assert found.row_losses is not None
        assert whole.row_losses is not None
        _close(found.row_losses, whole.row_losses)


def test_the_state_holds_the_squares() -> None:
    logits, labels, _ = _batch()
    evaluation = Evaluation.of(logits, labels, [Spec("sparse")], record="sums")
    again = Evaluation([Spec("sparse")], record="sums")
    again.load_state_dict(evaluation.state_dict())
    assert again.recorded()[0].loss_square_sum == evaluation.recorded()[0].loss_square_sum


def test_nothing_is_recorded_of_no_rows() -> None:
    found, _ = _of(Spec("sparse"), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert found.prior_sum is None
    assert found.loss_max is None
    assert found.row_losses is not None
    assert len(found.row_losses) == 0


def test_what_was_not_asked_for_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="record"):
        Evaluation([Spec("sparse")]).recorded()


def test_buckets_have_bounds() -> None:
    lower, upper, value = bucket_bounds()
    logits, labels, _ = _batch()
    found, _ = _of(Spec("sparse"), logits, labels)
    assert found.row_losses is not None
    assert len(found.buckets) == len(lower) == len(upper)
    counted = torch.stack(
        [
            ((found.row_losses > lower[b]) & (found.row_losses <= upper[b])).sum()
            for b in found.buckets.nonzero()[:, 0]
        ]
    )
    assert counted.equal(found.buckets[found.buckets > 0])
    middle = value[found.buckets > 0]
    assert ((middle > lower[found.buckets > 0]) & (middle <= upper[found.buckets > 0])).all()
