"""Graphs compute what the core answers: in ordinary rows, and in those that are hard."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from tests.service.graphs.computed import (
    answer,
    assert_alike,
    compute,
    compute_by_reference,
    wanted,
)
from tests.xentcore.conftest import draw, name_of, spec
from tests.xentcore.oracle import CASES, CLASSES, Case
from xentcore import LabelKind, Spec

EVERY_KIND = [(case, kind) for case in CASES for kind in case.labels]
# What does not depend on how labels are written is asked about one way of writing them.
ONE_KIND = [(case, case.labels[0]) for case in CASES]
each_kind = partial(pytest.mark.parametrize, ("case", "kind"), ids=name_of)
nan, inf = math.nan, math.inf


def targets_of(kind: LabelKind, index: Tensor, classes: int, *, ranks: bool) -> Tensor:
    """Return labels of a kind that mean these classes, or ranks."""
    if kind == "integer":
        return index
    if ranks:
        return (torch.arange(classes) < index[:, None]).float()
    return torch.nn.functional.one_hot(index, classes).float()


def family_of(case: Case, kind: LabelKind) -> str:
    asked = wanted(case.spec, CLASSES, kind)
    return asked.variant.family(asked.settings, kind)


def check(case: Case, kind: LabelKind, logits: Tensor, labels: Tensor) -> None:
    asked = wanted(case.spec, logits.shape[1], kind)
    found = compute(asked, logits, labels)
    # On distributions a sum of terms that cancel where p = t.
    lost = 1e-15 if case.slug == "bi-tempered" and kind == "probabilities" else 0.0
    assert_alike(found, answer(asked, logits, labels), lost=lost)


@each_kind(EVERY_KIND)
def test_rows_that_are_drawn(case: Case, kind: LabelKind) -> None:
    batch = draw(kind, 40, torch.float32, ranks=case.ranks)
    check(case, kind, batch.logits, batch.labels)


@each_kind(ONE_KIND)
def test_the_standards_own_evaluator_agrees(case: Case, kind: LabelKind) -> None:
    batch = draw(kind, 12, torch.float32, ranks=case.ranks)
    asked = wanted(case.spec, batch.logits.shape[1], kind)
    assert_alike(
        compute_by_reference(asked, batch.logits, batch.labels),
        answer(asked, batch.logits, batch.labels),
    )


@pytest.mark.slow
@each_kind(EVERY_KIND)
def test_a_common_offset_that_float32_can_hold_exactly(case: Case, kind: LabelKind) -> None:
    batch = draw(kind, 16, torch.float32, ranks=case.ranks)
    whole = batch.logits.round()
    check(case, kind, whole + 1e7, batch.labels)
    if case.slug == "z-loss" or family_of(case, kind) == "sigmoid":
        return
    asked = wanted(case.spec, CLASSES, kind)
    assert_alike(compute(asked, whole + 1e7, batch.labels), compute(asked, whole, batch.labels))


@each_kind(EVERY_KIND)
def test_labels_that_are_all_but_certain_and_all_but_impossible(
    case: Case, kind: LabelKind
) -> None:
    gaps = torch.tensor(
        [-1e18, -1e4, -700.0, -80.0, -20.0, -1e-6, 0, 1e-6, 5, 20, 40, 60, 80, 1e18]
    )
    classes = 1 if kind == "binary" else CLASSES
    logits = torch.zeros(len(gaps), classes)
    logits[:, 1 % classes] = gaps
    index = torch.full((len(gaps),), 1 % classes)
    check(case, kind, logits, targets_of(kind, index, classes, ranks=case.ranks))


@each_kind(ONE_KIND)
def test_rows_that_are_not_finite_show_it_and_are_no_part_of_the_mean(
    case: Case, kind: LabelKind
) -> None:
    rows = [
        [1.0, 2.0, 0.5, 0.0, -1.0],
        [nan, 1.0, 0.5, 0.0, -1.0],
        [1.0, 2.0, nan, 0.0, -1.0],
        [inf, 1.0, 0.5, 0.0, -1.0],
        [1.0, inf, 0.5, 0.0, -1.0],
        [-inf, 1.0, 0.5, 0.0, -1.0],
        [1.0, -inf, 0.5, 0.0, -1.0],
        [1.0, -inf, -inf, -inf, -inf],
        [-inf] * 5,
    ]
    classes = 1 if kind == "binary" else CLASSES
    logits = torch.tensor(rows)[:, :classes]
    index = torch.zeros(len(rows), dtype=torch.int64)
    check(case, kind, logits, targets_of(kind, index, classes, ranks=case.ranks))


@each_kind(EVERY_KIND)
def test_rows_that_are_left_out_add_nothing_whatever_they_hold(case: Case, kind: LabelKind) -> None:
    batch = draw(kind, 12, torch.float32, ranks=case.ranks)
    logits, labels = batch.logits.clone(), batch.labels.clone()
    labels[::3] = -100
    logits[::6] = nan
    check(case, kind, logits, labels)


@each_kind(ONE_KIND)
def test_no_rows_and_none_left(case: Case, kind: LabelKind) -> None:
    batch = draw(kind, 4, torch.float32, ranks=case.ranks)
    asked = wanted(case.spec, batch.logits.shape[1], kind)
    left_out = torch.full_like(batch.labels, -100)
    for logits, labels in ((batch.logits[:0], batch.labels[:0]), (batch.logits, left_out)):
        found = compute(asked, logits, labels)
        assert math.isnan(found.mean)
        assert found.sum == found.denominator == 0
        assert found.loss.shape == logits.shape[:1]
        assert found.gradient.shape == logits.shape
        assert not found.gradient.any()


@each_kind(ONE_KIND)
def test_one_class_is_all_there_is(case: Case, kind: LabelKind) -> None:
    classes = 1 if kind == "binary" else CLASSES
    logits = draw(kind, 12, torch.float32, ranks=case.ranks).logits
    index = torch.full((12,), classes - 1)
    check(case, kind, logits, targets_of(kind, index, classes, ranks=case.ranks))


MANY = {
    "class_counts": tuple(range(1, 1001)),
    "class_weights": tuple(1 + n / 1000 for n in range(1000)),
}
THOUSAND = [
    spec("sparse", class_weights=MANY["class_weights"]),
    spec("label-smoothing", class_weights=MANY["class_weights"]),
    spec("focal"),
    spec("class-balanced", class_counts=MANY["class_counts"], gamma=1.5),
    spec("balanced-softmax", class_counts=MANY["class_counts"]),
    spec("ldam", class_counts=MANY["class_counts"]),
    spec("taylor", order=100),
    spec("bi-tempered", t2=4.0),
    spec("symmetric"),
    spec("confidence-penalty"),
    spec("z-loss"),
    spec("ordinal"),
    spec("binary"),
    spec("asymmetric"),
]


@pytest.mark.parametrize("asked", THOUSAND, ids=lambda asked: asked.variant)
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_a_thousand_classes(asked: Spec, spread: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = spread * torch.randn(16, 1000, generator=generator)
    labels = torch.randint(1000, (16,), generator=generator)
    given = wanted(asked, 1000, "integer")
    assert_alike(compute(given, logits, labels), answer(given, logits, labels))


@pytest.mark.parametrize("slug", ["binary", "focal", "asymmetric", "quality-focal", "ordinal"])
@pytest.mark.parametrize("kind", ["binary", "multi_hot"])
def test_one_column_of_yes_and_no(slug: str, kind: LabelKind) -> None:
    settings: dict[str, object] = {"activation": "sigmoid"} if slug == "focal" else {}
    if slug == "quality-focal" and kind == "binary":
        settings = {"beta": 0.5}
    logits = torch.tensor([[-40.0], [-1.0], [0.0], [2.0], [inf], [-inf]])
    labels = torch.tensor([[1.0], [0.0], [1.0], [1.0], [1.0], [1.0]])
    asked = wanted(spec(slug, **settings), 1, kind)
    assert_alike(compute(asked, logits, labels), answer(asked, logits, labels))


def test_a_soft_target_that_is_tiny_does_not_fade_where_the_logit_is_infinite() -> None:
    logits = torch.tensor([[-inf, 0.0], [inf, 0.0], [-inf, inf]])
    labels = torch.tensor([[1e-30, 0.5], [1.0, 0.5], [0.0, 1.0]])
    for asked in (spec("quality-focal"), spec("focal", activation="sigmoid"), spec("binary")):
        given = wanted(asked, 2, "probabilities")
        assert_alike(compute(given, logits, labels), answer(given, logits, labels))


@pytest.mark.parametrize("weight", [0.0, 1e-30])
def test_class_weights_that_cancel_leave_no_mean(weight: float) -> None:
    logits, labels = torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)
    asked = wanted(spec("sparse", class_weights=(weight, 1.0, 1.0)), 3)
    assert_alike(compute(asked, logits, labels), answer(asked, logits, labels))


WRONG: list[tuple[str, LabelKind, Tensor]] = [
    ("sparse", "integer", torch.tensor([0, 3])),
    ("sparse", "integer", torch.tensor([0, -1])),
    ("sparse", "integer", torch.tensor([0, -(2**62)])),
    ("ordinal", "integer", torch.tensor([3, 4])),
    ("binary", "integer", torch.tensor([2, 3])),
    ("categorical", "probabilities", torch.tensor([[0.2, 0.8, 0.0], [0.2, 0.2, 0.2]])),
    ("categorical", "probabilities", torch.tensor([[0.2, 0.8, 0.0], [1.5, -0.5, 0.0]])),
    ("categorical", "probabilities", torch.tensor([[0.2, 0.8, 0.0], [nan, 1.0, 0.0]])),
    ("categorical", "one_hot", torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])),
    ("categorical", "one_hot", torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])),
    ("binary", "multi_hot", torch.tensor([[0.0, 1.0, 1.0], [0.5, 0.0, 0.0]])),
    ("binary", "probabilities", torch.tensor([[0.0, 1.0, 0.3], [1.5, 0.0, 0.0]])),
    ("ordinal", "multi_hot", torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])),
]


@pytest.mark.parametrize(("slug", "kind", "labels"), WRONG)
def test_of_a_label_that_is_none_the_numbers_are_not_silent(
    slug: str, kind: LabelKind, labels: Tensor
) -> None:
    found = compute(wanted(spec(slug), 3, kind), torch.randn(2, 3), labels)
    assert found.loss[0].isfinite()
    assert found.loss[1].isnan()
    assert math.isnan(found.mean)
    assert math.isnan(found.sum)
    assert found.gradient[0].isfinite().all()
    assert found.gradient[1].isnan().all()


def test_another_label_may_mark_rows_to_leave_out_and_none_may() -> None:
    logits, labels = torch.randn(3, 4), torch.tensor([0, 1, 2])
    asked = wanted(spec("sparse"), 4, "integer", ignore_index=1)
    found = compute(asked, logits, labels)
    assert_alike(found, answer(asked, logits, labels))
    assert found.denominator == 2
    asked = wanted(spec("sparse"), 4, "integer", ignore_index=None)
    assert compute(asked, logits, labels).denominator == 3
    assert math.isnan(compute(asked, logits, torch.tensor([0, 1, -100])).mean)
    asked = wanted(spec("binary"), 4, "multi_hot", ignore_index=None)
    assert compute(asked, logits, torch.zeros(3, 4)).denominator == 12


COUNTS = (1, 10, 1000, 10**6, 10**9)
# Settings at the ends of their ranges, and where one formula turns into another.
BOUNDS = [
    spec("asymmetric", gamma_pos=20.0, gamma_neg=0.0, margin=0.99),
    spec("asymmetric", gamma_pos=1e-9, gamma_neg=1e-9, margin=1e-12),
    spec("balanced-softmax", class_counts=COUNTS),
    spec("bi-tempered", t1=0.0, t2=10.0),
    spec("bi-tempered", t1=1.0, t2=1.0),
    spec("bi-tempered", t1=1.0, t2=1.0 + 1e-9),
    spec("bi-tempered", t1=0.999, t2=1.5, smoothing=0.9),
    spec("binary", positive_weights=1e9, smoothing=0.99),
    spec("class-balanced", beta=1 - 1e-12, gamma=1e-9, class_counts=COUNTS),
    spec("confidence-penalty", beta=0.0),
    spec("confidence-penalty", beta=1e6),
    spec("focal", gamma=100.0),
    spec("focal", gamma=1e-9),
    spec("focal", gamma=100.0, activation="sigmoid", alpha=0.0),
    spec("generalized", q=1.0),
    spec("generalized", q=1e-300),
    spec("label-smoothing", smoothing=0.999, spread="others"),
    spec("label-smoothing", class_weights=(0.0, 0.0, 1.0, 1e9, 1e-9)),
    spec("ldam", scale=60.0, max_margin=1.0, class_counts=COUNTS),
    spec("ldam", scale=1e-3, max_margin=1.0, class_counts=COUNTS),
    spec("logit-adjusted", tau=100.0, class_prior=(1e-9, 1e-3, 1.0, 1e3, 1e9)),
    spec("poly1", epsilon=-0.999),
    spec("poly1", epsilon=1e6),
    spec("quality-focal", beta=30.0),
    spec("quality-focal", beta=1e-9),
    spec("sparse", class_weights=(0.0, 0.0, 1.0, 1e9, 1e-9)),
    spec("symmetric", alpha=0.0, beta=0.0),
    spec("symmetric", alpha=1.0, beta=100.0, log_zero=-1e-9),
    spec("taylor", order=1),
    spec("taylor", order=100),
    spec("temperature", temperature=1e-6),
    spec("temperature", temperature=1e6),
    spec("z-loss", penalty=0.0),
    spec("z-loss", penalty=1e6),
]


@pytest.mark.parametrize("asked", BOUNDS, ids=name_of)
def test_settings_at_the_ends_of_their_ranges(asked: Spec) -> None:
    kind: LabelKind = "integer" if asked.variant != "quality-focal" else "probabilities"
    batch = draw(kind, 40, torch.float32)
    given = wanted(asked, CLASSES, kind)
    assert_alike(
        compute(given, batch.logits, batch.labels), answer(given, batch.logits, batch.labels)
    )
