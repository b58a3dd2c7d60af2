"""Variants that change the logits first: what they share, and what is said about which logits."""

import math
from collections.abc import Callable
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import Tensor

from tests.xentcore.conftest import ask, draw, name_of, spec
from xentcore import (
    OUTPUTS,
    VARIANTS,
    CannotMerge,
    Evaluation,
    InvalidSetting,
    Options,
    Result,
    Settings,
    Spec,
    evaluate,
)
from xentcore.row_statistics import RowTerms, row_statistics
from xentcore.spec import BoundSpec
from xentcore.transformation import Transformation

COUNTS = (10, 3, 1, 200, 7)
BATCH = draw("integer", 40, torch.float64)


def whole(asked: Spec, logits: Tensor = BATCH.logits, labels: Tensor = BATCH.labels) -> Result:
    """Return everything about a variant."""
    return ask(asked, logits, labels, outputs=OUTPUTS)


def assert_equal(found: Result, expected: Result) -> None:
    """Check that two answers agree to the last bit in all but name and settings."""
    assert (found.loss, found.reduction) == (expected.loss, expected.reduction)
    assert found.hardest == expected.hardest
    assert (found.diagnostics, found.rows) == (expected.diagnostics, expected.rows)
    tables = ("per_class", "row_statistics")
    for name in tables:
        mine, theirs = getattr(found, name), getattr(expected, name)
        for column in theirs:
            torch.testing.assert_close(mine[column], theirs[column], rtol=0, atol=0, equal_nan=True)
    for name in ("gradient", "per_sample"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


# --- passes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("specs", "passes"),
    [
        ([spec("sparse"), spec("focal"), spec("weighted", class_weights="balanced")], 1),
        ([spec("temperature", temperature=2.0), spec("temperature", temperature=3.0)], 2),
        ([spec("temperature", temperature=0.5), spec("ldam", scale=2.0)], 1),
        ([spec("balanced-softmax"), spec("sparse"), spec("logit-adjusted")], 2),
        ([spec("balanced-softmax"), spec("balanced-softmax", class_counts=COUNTS)], 2),
        ([spec("logit-adjusted", tau=2.0), spec("logit-adjusted")], 2),
    ],
    ids=str,
)
def test_equal_transformations_share_a_pass(specs: list[Spec], passes: int) -> None:
    with mock.patch("xentcore.chunk.row_statistics", side_effect=row_statistics) as measured:
        together = evaluate(BATCH.logits, BATCH.labels, specs, outputs=OUTPUTS)
    weighted = any(BoundSpec(asked, COUNTS).class_weights is not None for asked in specs)
    # Once more for the gradient, where weights leave open what it is divided by.
    assert measured.call_count == passes * (2 if weighted else 1)
    for asked, found in zip(specs, together, strict=True):
        assert_equal(found, whole(asked))


def test_balanced_softmax_is_logit_adjusted_by_its_counts() -> None:
    expected = whole(spec("balanced-softmax", class_counts=COUNTS))
    assert_equal(whole(spec("logit-adjusted", class_counts=COUNTS)), expected)
    assert_equal(whole(spec("logit-adjusted", class_prior=COUNTS)), expected)
    assert_equal(whole(spec("logit-adjusted")), whole(spec("balanced-softmax")))


def test_only_the_ratios_of_a_prior_matter() -> None:
    prior = (0.5, 0.25, 0.125, 0.0625, 0.0625)
    expected = whole(spec("logit-adjusted", class_prior=prior))
    doubled = tuple(2 * share for share in prior)
    found = whole(spec("logit-adjusted", class_prior=doubled))
    assert found.loss == pytest.approx(expected.loss, rel=1e-14)


# --- what is measured ----------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.5, 4.0])
def test_all_that_is_said_of_a_temperature_is_said_of_z_over_t(factor: float) -> None:
    found = whole(spec("temperature", temperature=1 / factor))
    expected = whole(spec("sparse"), BATCH.logits * factor)
    assert found.gradient is not None
    assert found.per_class is not None
    chained = {
        name: found.per_class[name] / factor for name in ("gradient_norm_mean", "gradient_sum")
    }
    assert_equal(
        replace(
            found,
            gradient=found.gradient / factor,
            per_class={**found.per_class, **chained},
        ),
        expected,
    )


def test_priors_change_predictions_and_margins_do_not() -> None:
    plain, margin, prior = (
        whole(asked)
        for asked in (
            spec("temperature", temperature=1 / 30),
            spec("ldam", class_counts=COUNTS),
            spec("logit-adjusted", class_prior=(1e-30, 1.0, 1.0, 1.0, 1.0)),
        )
    )
    assert plain.per_class is not None
    assert margin.per_class is not None
    assert prior.per_class is not None
    for name in ("recall", "predicted", "mean_probability"):
        assert torch.equal(margin.per_class[name], plain.per_class[name])
    assert margin.calibration is not None
    assert plain.calibration is not None
    assert margin.calibration.ece == plain.calibration.ece
    assert plain.per_class["predicted"][0] > 0
    assert prior.per_class["predicted"][0] == 0


@pytest.mark.parametrize("offset", [0.0, 3e7])
def test_the_log_partition_is_that_of_the_transformed_logits(offset: float) -> None:
    steps = (BATCH.logits * 4).round()  # exact beside the offset
    found = whole(spec("balanced-softmax", class_counts=COUNTS), steps + offset).row_statistics
    assert found is not None
    log_prior = (torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)).log()
    expected = (steps + log_prior).logsumexp(dim=1) + offset
    torch.testing.assert_close(
        found["max_logit"] + found["log_partition"], expected, rtol=1e-15, atol=1e-12
    )


def test_what_looks_like_probabilities_is_what_was_given() -> None:
    given = BATCH.logits.softmax(dim=1)
    found = whole(spec("temperature", temperature=0.01), given)
    assert "double_softmax" in {each.code for each in found.diagnostics}
    other = whole(spec("logit-adjusted", class_prior=COUNTS), given.log())
    assert "double_softmax" not in {each.code for each in other.diagnostics}


def test_probabilities_are_turned_into_logits_first() -> None:
    options = Options(input="probabilities")
    p = torch.tensor([[0.1, 0.2, 0.7], [0.0, 0.5, 0.5]])
    asked = spec("balanced-softmax", class_counts=(7, 2, 1))
    found = ask(asked, p, torch.tensor([0, 1]), options=options)
    assert found.loss == pytest.approx(math.log(18 / 7) / 2 + math.log(1.5) / 2, rel=1e-6)


# --- counts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", ["balanced-softmax", "logit-adjusted", "ldam"])
class TestCounts:
    LOGITS = BATCH.logits[:6, :3]
    LABELS = torch.tensor([0, 1, 2, 0, 0, 1])

    def test_come_from_the_batch_the_evaluation_or_the_settings(self, slug: str) -> None:
        stated = whole(spec(slug, class_counts=(3, 2, 1)), self.LOGITS, self.LABELS)
        for plain in (Spec(slug), spec(slug)):
            assert_equal(whole(plain, self.LOGITS, self.LABELS), stated)
        streamed = Evaluation([Spec(slug)], class_counts=[3, 2, 1])
        streamed.update(self.LOGITS[:4], self.LABELS[:4])
        streamed.update(self.LOGITS[4:], self.LABELS[4:])
        assert streamed.result()[0].loss == pytest.approx(stated.loss, rel=1e-14)

    def test_of_a_stream_have_to_be_given(self, slug: str) -> None:
        with pytest.raises(InvalidSetting, match="give class_counts when rows come in") as caught:
            Evaluation([Spec("sparse"), Spec(slug)])
        assert (caught.value.pointer, caught.value.spec) == ("/settings/class_counts", 1)

    def test_of_another_length_are_named(self, slug: str) -> None:
        for asked, counts in ((spec(slug, class_counts=(1, 2)), None), (Spec(slug), [1, 2])):
            with pytest.raises(InvalidSetting, match="class_counts has 2 entries for 3") as caught:
                Evaluation([asked], classes=3, class_counts=counts)
            assert caught.value.pointer == "/settings/class_counts"
            evaluation = Evaluation([asked], class_counts=counts)
            with pytest.raises(InvalidSetting, match="class_counts has 2 entries for 3"):
                evaluation.update(self.LOGITS, self.LABELS)

    def test_that_differ_do_not_merge(self, slug: str) -> None:
        first, second = (Evaluation([Spec(slug)], class_counts=n) for n in ([3, 2, 1], [3, 2, 2]))
        with pytest.raises(CannotMerge, match="differ in variants, settings"):
            first.merge(second)

    def test_of_nothing_are_an_answer(self, slug: str) -> None:
        result = ask(Spec(slug), self.LOGITS, torch.full((6,), -100))
        assert (result.loss, result.undefined) == (None, "no_rows")


def test_a_class_that_no_row_is_counted_for_has_the_largest_margin() -> None:
    logits, labels = BATCH.logits[:, :3], torch.tensor([0] * 40)
    counted = Evaluation([spec("ldam")], class_counts=[0, 2, 5])
    counted.update(logits, labels)
    expected = ask(spec("ldam", class_counts=(2, 2, 5)), logits, labels)
    assert counted.result()[0].loss == expected.loss


def test_a_missing_setting_names_its_spec_before_counts_are_taken() -> None:
    with pytest.raises(InvalidSetting, match="has settings without a default") as caught:
        evaluate(BATCH.logits, BATCH.labels, [Spec("sparse"), Spec("weighted")])
    assert caught.value.spec == 1


# --- settings ------------------------------------------------------------------------------------


def settings(slug: str, **given: object) -> Callable[[], Settings]:
    """Return what makes settings."""
    return lambda: VARIANTS[slug].settings_type(**given)


@pytest.mark.parametrize(
    ("made", "pointer"),
    [
        (settings("temperature", temperature=0.0), "/temperature"),
        (settings("temperature", temperature=-1.0), "/temperature"),
        (settings("temperature", temperature=math.inf), "/temperature"),
        (settings("logit-adjusted", tau=-0.5), "/tau"),
        (settings("logit-adjusted", class_prior=(0.5, 0.0)), "/class_prior/1"),
        (settings("logit-adjusted", class_counts=(0, 2)), "/class_counts/0"),
        (settings("logit-adjusted", class_counts=(1, 2), class_prior=(1.0, 2.0)), "/class_counts"),
        (settings("balanced-softmax", class_counts=(2, 0)), "/class_counts/1"),
        (settings("ldam", class_counts=(2, 0)), "/class_counts/1"),
        (settings("ldam", max_margin=-0.1), "/max_margin"),
        (settings("ldam", scale=0.0), "/scale"),
        (settings("ldam", scale=121.0), "/max_margin"),
        (settings("asymmetric", margin=1.0), "/margin"),
        (settings("asymmetric", gamma_neg=-1.0), "/gamma_neg"),
        (settings("quality-focal", beta=-1.0), "/beta"),
        (settings("ordinal", class_weights=(-1.0,)), "/class_weights/0"),
    ],
)
def test_settings_outside_their_range_are_named(made: Callable[[], Settings], pointer: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        made()
    assert caught.value.pointer == f"/settings{pointer}"


# --- the chain rule ------------------------------------------------------------------------------


@pytest.mark.parametrize("hard", [True, False])
def test_terms_are_brought_back_to_the_given_logits(hard: bool) -> None:
    numbers = torch.tensor([1.0, 2.0])
    terms = RowTerms(
        loss=numbers,
        scale=numbers,
        subtract=None if hard else lambda: torch.ones(2, 3),
        at_label=-numbers if hard else None,
    )
    found = Transformation(scale=0.5).to_given(terms)
    assert torch.equal(found.loss, numbers)
    assert torch.equal(found.scale, numbers / 2)
    assert hard or found.subtract is not None
    changed = found.at_label if found.subtract is None else found.subtract()
    assert changed is not None
    assert torch.equal(changed, -numbers / 2 if hard else torch.full((2, 3), 0.5))
    assert Transformation(offsets=(0.0, 1.0)).to_given(terms) is terms


@pytest.mark.parametrize("asked", [spec("temperature"), spec("ldam", scale=1.0, max_margin=0.0)])
def test_a_transformation_that_changes_nothing_changes_nothing(asked: Spec) -> None:
    batch = draw("integer", 40, torch.float32)
    found, plain = (ask(s, batch.logits, batch.labels) for s in (asked, spec("sparse")))
    rel = 1e-15 if asked.variant == "ldam" else 0
    assert found.loss == pytest.approx(plain.loss, rel=rel), name_of(asked)
