"""What is compared between variants, against definitions written out: every row, every matrix."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import pytest
import torch
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from torch import Tensor

from tests.xentcore.conftest import blocks_of, spec
from tests.xentcore.test_laws import (
    IGNORED,
    make_labels,
    make_weights,
    one_thread,
    readings,
    some_settings,
)
from xentcore import (
    VARIANTS,
    Cancelled,
    CannotMerge,
    ComparedPair,
    ComparedVariant,
    Comparison,
    Evaluation,
    InvalidSetting,
    LabelKind,
    Options,
    Result,
    Spec,
    evaluate,
)
from xentcore.gradient_dots import gradient_dots

KINDS: tuple[LabelKind, ...] = ("integer", "one_hot", "probabilities", "multi_hot", "binary")
FAMILIES = ("softmax", "sigmoid")
__all__ = ["one_thread"]  # a fixture that holds for this module too


@dataclass(frozen=True)
class Batch:
    """A batch and the specs that are compared on it."""

    logits: Tensor
    labels: Tensor
    weights: Tensor | None
    specs: tuple[Spec, ...]
    options: Options

    def new(self) -> Evaluation:
        """Return an evaluation of this question that has seen nothing."""
        counts = range(1, self.logits.shape[1] + 1)
        return Evaluation(self.specs, options=self.options, class_counts=counts, compare=True)

    def seen(self) -> Evaluation:
        """Return an evaluation that has seen the batch in one chunk."""
        evaluation = self.new()
        evaluation.update(self.logits, self.labels, self.weights)
        return evaluation

    def compared(self) -> Comparison:
        return self.seen().comparison()

    def at(self, rows: Tensor | slice) -> "Batch":
        """Return the batch of some rows."""
        return replace(
            self,
            logits=self.logits[rows],
            labels=self.labels[rows],
            weights=None if self.weights is None else self.weights[rows],
        )

    def results(self) -> tuple[Result, ...]:
        """Return each row's loss and gradient under each spec, of the sum, and the columns."""
        evaluation = Evaluation(
            self.specs,
            outputs={"per_sample", "gradient", "per_class"},
            options=replace(self.options, reduction="sum", gradient_dtype=torch.float64),
            class_counts=range(1, self.logits.shape[1] + 1),
        )
        evaluation.update(self.logits, self.labels, self.weights)
        return evaluation.result()


def all_specs(kind: LabelKind, classes: int) -> tuple[Spec, ...]:
    """Return every variant that takes labels of a kind, under two settings most unlike."""
    found = []
    for slug, variant in VARIANTS.items():
        if kind in variant.label_kinds:
            settings = some_settings(slug, kind, classes)
            found += [Spec(slug, each) for each in dict.fromkeys((settings[0], settings[-1]))]
    return tuple(found)


def draw(
    kind: LabelKind,
    *,
    seed: int = 0,
    rows: int = 20,
    weighted: bool = True,
    odd: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Batch:
    """Draw a batch with ties; odd ones have ignored rows, infinities, NaN and an absent class."""
    generator = torch.Generator().manual_seed(seed)
    classes = 1 if kind == "binary" else 6
    logits = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    logits = (2 * logits).round() / 2
    about = readings([spec.variant for spec in all_specs(kind, classes)], kind)
    labels = make_labels(kind, rows, classes, generator, about)
    if odd:
        logits[torch.rand(logits.shape, generator=generator) < 0.05] = -torch.inf
        logits[3, 0], logits[4, 0] = torch.nan, torch.inf
        if kind == "integer":
            labels[labels == 2] = 3
        labels[torch.rand(rows, generator=generator) < 0.1] = IGNORED
    # Whole numbers, some of them 0: a row of weight 2 can be written as two rows.
    weights = make_weights(rows, generator).round() if weighted else None
    options = Options(label_kind=kind, ignore_index=IGNORED)
    return Batch(logits.to(dtype), labels, weights, all_specs(kind, classes), options)


def as_targets(labels: Tensor, kind: LabelKind, classes: int) -> Tensor:
    """Return labels without ignored rows as (rows, classes), float64."""
    if kind == "integer":
        return torch.nn.functional.one_hot(labels, classes).double()
    return labels.double()


every_kind = pytest.mark.parametrize("kind", KINDS)
weighted_or_not = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
odd_or_not = pytest.mark.parametrize("odd", [False, True], ids=["tame", "odd"])


# --- normalised entropy --------------------------------------------------------------------------


def prior_by_hand(batch: Batch, place: int, result: Result) -> float:
    """Return the loss of the class frequencies, given to every evaluated row as its logits."""
    assert result.row_status is not None
    rows = (result.row_status.reshape(len(batch.logits)) == 0).nonzero()[:, 0]
    labels = batch.labels[rows]
    weights = torch.ones(len(rows), dtype=torch.float64)
    if batch.weights is not None:
        weights = batch.weights[rows]
    kind = batch.options.label_kind
    assert kind != "auto"
    targets = as_targets(labels, kind, batch.logits.shape[1])
    if kind == "integer" and "ranks" in readings([batch.specs[place].variant], kind):
        targets = (labels[:, None] > torch.arange(batch.logits.shape[1])).double()
    shares = (targets * weights[:, None]).sum(dim=0) / weights.sum()
    if result.family == "softmax":
        logits = shares.log() - shares.sum().log()
    else:
        rest = ((1 - targets) * weights[:, None]).sum(dim=0) / weights.sum()
        logits = shares.log() - rest.log()
    evaluation = Evaluation(
        [batch.specs[place]],
        options=replace(batch.options, nonfinite="propagate"),
        class_counts=range(1, batch.logits.shape[1] + 1),
    )
    evaluation.update(logits.expand(len(rows), -1), labels, weights)
    return evaluation.result()[0].reduction.sum


@every_kind
@weighted_or_not
@odd_or_not
def test_the_prior_is_one_that_is_evaluated_row_by_row(
    kind: LabelKind, weighted: bool, odd: bool
) -> None:
    batch = draw(kind, weighted=weighted, odd=odd)
    evaluation = batch.seen()
    found = evaluation.comparison().variants
    finite = 0
    for place, (variant, result) in enumerate(zip(found, batch.results(), strict=True)):
        expected = prior_by_hand(batch, place, result)
        assert variant.prior_sum == pytest.approx(expected, rel=1e-11)
        if math.isinf(expected):
            assert (variant.normalised_entropy, variant.undefined) == (None, "prior_loss_infinite")
        elif expected < 0:
            assert variant.normalised_entropy is None
            assert variant.undefined == "prior_loss_not_positive"
        else:
            finite += 1
            ratio = result.reduction.sum / expected
            assert variant.normalised_entropy == pytest.approx(ratio, rel=1e-11)
            assert variant.undefined is None
    assert finite


def compared(
    logits: Tensor,
    labels: Tensor,
    *specs: Spec,
    weights: Tensor | None = None,
    options: Options | None = None,
) -> Comparison:
    evaluation = Evaluation.of(
        logits, labels, specs, sample_weights=weights, options=options, compare=True
    )
    return evaluation.comparison()


def test_the_entropy_of_the_labels_is_the_loss_of_their_frequencies() -> None:
    labels = torch.tensor([0, 0, 1, IGNORED])
    logits = torch.randn(4, 3)
    (variant,) = compared(logits, labels, spec("sparse")).variants
    entropy = -(2 * math.log(2 / 3) + math.log(1 / 3))
    assert variant.prior_sum == pytest.approx(entropy, rel=1e-15)


def test_the_frequencies_themselves_have_a_normalised_entropy_of_one() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    logits = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64).log().expand(6, 3)
    specs = [spec("sparse"), spec("focal"), spec("label-smoothing"), spec("binary")]
    found = compared(logits, labels, *specs).variants
    for variant in found[:3]:
        assert variant.normalised_entropy == pytest.approx(1, rel=1e-14)
    yes = torch.tensor([[1, 1], [1, 0], [0, 0], [1, 1]])
    odds = torch.tensor([3.0, 1.0], dtype=torch.float64).log().expand(4, 2)
    (binary,) = compared(odds, yes, spec("binary")).variants
    assert binary.normalised_entropy == pytest.approx(1, rel=1e-14)


UNDEFINED = [
    ("no_rows", [IGNORED, IGNORED], None, {}),
    ("zero_weight", [0, 1], [0.0, 0.0], {}),
    ("prior_loss_not_positive", [1, 1], None, {}),
    ("loss_not_finite", [0, 1], None, {"nonfinite": "propagate"}),
]


@pytest.mark.parametrize(
    ("reason", "labels", "weights", "options"), UNDEFINED, ids=[case[0] for case in UNDEFINED]
)
def test_what_has_no_normalised_entropy_says_why(
    reason: str, labels: list[int], weights: list[float] | None, options: dict[str, str]
) -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]])
    if options:
        logits[0, 0] = torch.nan
    (variant,) = compared(
        logits,
        torch.tensor(labels),
        spec("sparse"),
        weights=None if weights is None else torch.tensor(weights),
        options=Options(**options),  # type: ignore[arg-type]
    ).variants
    assert (variant.normalised_entropy, variant.undefined) == (None, reason)
    assert variant.class_share["share"].isnan().all() or reason == "prior_loss_not_positive"


def test_mass_on_an_absent_class_makes_the_prior_infinite() -> None:
    logits = torch.randn(3, 3)
    specs = [spec("label-smoothing"), spec("sparse")]
    smooth, plain = compared(logits, torch.tensor([0, 1, 1]), *specs).variants
    assert (smooth.prior_sum, smooth.undefined) == (math.inf, "prior_loss_infinite")
    assert plain.undefined is None


@pytest.mark.parametrize("kind", ["integer", "one_hot"])
@pytest.mark.parametrize("counts", [(3, 4, 7, 11), (5, 5, 5, 5)], ids=str)
def test_a_prior_whose_loss_cancels_is_not_divided_by(
    kind: LabelKind, counts: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(1)
    rows, classes = sum(counts), len(counts)
    labels = torch.arange(classes).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(rows, generator=generator)]
    entropy = -sum(n * math.log(n / rows) for n in counts)
    if kind == "one_hot":
        labels = torch.nn.functional.one_hot(labels, classes)
    logits = torch.randn(rows, classes, generator=generator)
    weights = torch.full((rows,), 0.37, dtype=torch.float64)
    # What is rewarded is the entropy of the frequencies, and so is what the labels cost.
    specs = [spec("confidence-penalty", beta=beta) for beta in (1, 1 - 1e-6, 1 + 1e-6)]
    for stop in (3, rows):  # in one chunk or in two
        evaluation = Evaluation(specs, options=Options(label_kind=kind), compare=True)
        for some in (slice(0, stop), slice(stop, rows)):
            evaluation.update(logits[some], labels[some], weights[some])
        nothing, above, below = evaluation.comparison().variants
        assert (nothing.prior_sum, nothing.undefined) == (0, "prior_loss_not_positive")
        assert above.prior_sum == pytest.approx(0.37e-6 * entropy, rel=1e-8)
        assert (above.undefined, below.undefined) == (None, "prior_loss_not_positive")
        assert below.prior_sum == pytest.approx(-0.37e-6 * entropy, rel=1e-8)


@pytest.mark.parametrize("t1", [0.0, 0.8, 1.0])
def test_a_divergence_of_the_prior_from_itself_is_nothing(t1: float) -> None:
    labels = torch.tensor([0.2, 0.3, 0.1, 0.4], dtype=torch.float64).expand(7, 4)
    (variant,) = compared(torch.randn(7, 4), labels, spec("bi-tempered", t1=t1, t2=1.0)).variants
    assert (variant.prior_sum, variant.undefined) == (0, "prior_loss_not_positive")


def test_nothing_at_all_is_an_answer() -> None:
    found = Evaluation([spec("sparse"), spec("focal")], compare=True).comparison()
    assert [each.undefined for each in found.variants] == ["no_rows"] * 2
    (pair,) = found.pairs
    assert (pair.rows, pair.spearman, pair.spearman_undefined) == (0, None, "too_few_rows")
    assert (pair.gradient_cosine, pair.gradient_cosine_undefined) == (None, "zero_gradient")


def test_more_classes_than_a_square_could_hold() -> None:
    classes = 300_000
    labels = torch.tensor([7, 7, 299_999, 5])
    found = compared(torch.zeros(4, classes), labels, spec("sparse"), spec("focal")).variants
    entropy = -(2 * math.log(2 / 4) + 2 * math.log(1 / 4))
    assert found[0].prior_sum == pytest.approx(entropy, rel=1e-15)


# --- pairs ---------------------------------------------------------------------------------------


def ranks_by_scipy(batch: Batch, results: Sequence[Result]) -> Iterator[tuple[int, float]]:
    """Yield how many rows two variants share, and their correlation; rows repeated by weight."""
    columns = []
    for result in results:
        assert result.per_sample is not None
        columns.append(result.per_sample.reshape(len(batch.logits)))
    losses = torch.stack(columns, dim=1)
    weights = torch.ones(len(batch.logits)) if batch.weights is None else batch.weights
    # All that have the same rows in common are correlated in one call.
    known: dict[tuple[bool, ...], Tensor] = {}
    for a, b in combinations(range(len(results)), 2):
        both = losses[:, [a, b]].isfinite().all(dim=1) & (weights > 0)
        rows = both.nonzero()[:, 0].repeat_interleave(weights[both].long())
        key = tuple(both.tolist())
        if key not in known:
            repeated = losses[rows] / weights[rows, None]
            finite = repeated.isfinite().all(dim=0).nonzero()[:, 0]
            found = spearmanr(repeated[:, finite], repeated[:, finite]).statistic
            known[key] = torch.full((len(results), len(results)), torch.nan, dtype=torch.float64)
            block = torch.from_numpy(found)[: len(finite), : len(finite)]
            known[key][finite[:, None], finite] = block
        yield int(both.sum()), float(known[key][a, b])


@every_kind
@weighted_or_not
@odd_or_not
def test_rank_correlations_are_scipys(kind: LabelKind, weighted: bool, odd: bool) -> None:
    batch = draw(kind, weighted=weighted, odd=odd)
    # Powers of two: a loss times a weight over the weight is the loss again, and ties stay ties.
    if batch.weights is not None:
        batch = replace(batch, weights=batch.weights.clamp_max(2))
    results = batch.results()
    pairs = batch.compared().pairs
    assert [(each.a, each.b) for each in pairs] == list(combinations(range(len(results)), 2))
    for pair, (rows, expected) in zip(pairs, ranks_by_scipy(batch, results), strict=True):
        assert pair.rows == rows
        assert pair.spearman == pytest.approx(expected, abs=1e-12)
        assert pair.spearman_undefined is None


def test_rows_must_differ_and_be_two_to_be_ranked() -> None:
    logits, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 0, 0])
    specs = [spec("sparse"), spec("focal")]
    for rows, reason in ((1, "too_few_rows"), (2, "constant_loss"), (3, None)):
        (pair,) = compared(logits[:rows], labels[:rows], *specs).pairs
        assert (pair.rows, pair.spearman_undefined) == (rows, reason)
    weights = torch.tensor([1.0, 0.0, 1.0])
    (pair,) = compared(logits, labels, *specs, weights=weights).pairs
    assert pair.rows == 2
    assert pair.spearman == pytest.approx(1)


@every_kind
@weighted_or_not
@odd_or_not
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_cosines_are_those_of_the_gradients(
    kind: LabelKind, weighted: bool, odd: bool, dtype: torch.dtype
) -> None:
    batch = draw(kind, weighted=weighted, odd=odd, dtype=dtype)
    gradients = []
    for result in batch.results():
        assert result.gradient is not None
        gradients.append(result.gradient.flatten())
    with blocks_of(70):
        pairs = batch.compared().pairs
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    for pair in pairs:
        a, b = gradients[pair.a], gradients[pair.b]
        expected = float(a @ b / (a.norm() * b.norm()))
        assert pair.gradient_cosine == pytest.approx(expected, abs=tolerance)
        assert pair.gradient_cosine_undefined is None


def test_gradients_of_different_logits_are_multiplied_as_they_are() -> None:
    specs = [spec("sparse"), spec("focal"), spec("label-smoothing")]
    evaluation = Evaluation(specs)
    logits, labels = torch.randn(8, 3, dtype=torch.float64), torch.randint(3, (8,))
    scored = []
    for scale in (1.0, 0.5):
        chunk = evaluation._admit(scale * logits, labels, None)
        (block,) = chunk.layout.blocks(8)
        found = {p: parts for p, _, parts in evaluation.inquiry.score(chunk, chunk.read(block))}
        scored += [found[place] for place in sorted(found)]
    gradients = torch.stack([parts[0][1].gradient(1.0).flatten() for parts in scored])
    torch.testing.assert_close(gradient_dots(scored, logits), gradients @ gradients.t())


def test_families_may_be_mixed() -> None:
    batch = draw("integer")
    families = {result.family for result in batch.results()}
    assert families == set(FAMILIES)


def test_a_gradient_that_is_not_finite_has_no_direction() -> None:
    logits = torch.tensor([[1.0, torch.nan], [0.0, 1.0]])
    options = Options(nonfinite="propagate")
    specs = [spec("sparse"), spec("focal")]
    (pair,) = compared(logits, torch.tensor([0, 1]), *specs, options=options).pairs
    assert (pair.gradient_cosine, pair.gradient_cosine_undefined) == (None, "gradient_not_finite")
    assert (pair.rows, pair.spearman_undefined) == (1, "too_few_rows")


# --- shares --------------------------------------------------------------------------------------


@every_kind
@weighted_or_not
@pytest.mark.parametrize("limit", [None, 2, 100])
def test_shares_are_those_of_the_breakdown_by_class(
    kind: LabelKind, weighted: bool, limit: int | None
) -> None:
    batch = draw(kind, weighted=weighted)
    batch = replace(batch, options=replace(batch.options, per_class_limit=limit))
    for variant, result in zip(batch.compared().variants, batch.results(), strict=True):
        assert result.per_class is not None
        assert list(variant.class_share) == ["class", "share"]
        assert variant.class_share["class"].equal(result.per_class["class"])
        torch.testing.assert_close(
            variant.class_share["share"],
            result.per_class["loss_share"],
            rtol=1e-12,
            atol=1e-15,
            equal_nan=True,
        )


# --- laws ----------------------------------------------------------------------------------------


def assert_same(found: Comparison, expected: Comparison) -> None:
    """Check that two comparisons agree: counts and words exactly, sums to 1e-12."""
    for mine, theirs in zip(found.variants, expected.variants, strict=True):
        same_numbers(mine, theirs, ("prior_sum", "normalised_entropy"))
        assert (mine.name, mine.undefined) == (theirs.name, theirs.undefined)
        torch.testing.assert_close(
            dict(mine.class_share), dict(theirs.class_share), rtol=1e-12, atol=0, equal_nan=True
        )
    assert len(found.pairs) == len(expected.pairs)
    for one, other in zip(found.pairs, expected.pairs, strict=True):
        same_numbers(one, other, ("spearman", "gradient_cosine"), absolute=1e-12)
        assert (one.a, one.b, one.rows) == (other.a, other.b, other.rows)
        assert one.spearman_undefined == other.spearman_undefined
        assert one.gradient_cosine_undefined == other.gradient_cosine_undefined


def same_numbers(
    mine: ComparedVariant | ComparedPair,
    theirs: ComparedVariant | ComparedPair,
    names: Sequence[str],
    absolute: float = 0.0,
) -> None:
    for name in names:
        expected = getattr(theirs, name)
        if expected is not None:
            expected = pytest.approx(expected, rel=1e-12, abs=absolute)
        assert getattr(mine, name) == expected, name


@pytest.mark.slow
@every_kind
@weighted_or_not
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_any_split_and_any_block_gives_the_same_comparison(
    kind: LabelKind, weighted: bool, dtype: torch.dtype
) -> None:
    batch = draw(kind, weighted=weighted, dtype=dtype)
    if batch.weights is not None:
        batch = replace(batch, weights=batch.weights * 0.37)
    expected = batch.compared()
    pieces = [batch.at(slice(a, b)) for a, b in ((0, 4), (4, 4), (4, 13), (13, 20))]
    evaluation = batch.new()
    for piece in pieces:
        evaluation.update(piece.logits, piece.labels, piece.weights)
    assert_same(evaluation.comparison(), expected)
    with blocks_of(6):  # a row each
        merged = batch.new()
        for piece in [*pieces, batch.at(slice(0))]:
            merged.merge(piece.seen())
            if piece is pieces[2]:
                merged.comparison()  # may be asked for in between
        merged.merge(batch.new())
        assert_same(merged.comparison(), expected)


@every_kind
def test_a_sample_weight_of_two_is_the_row_twice(kind: LabelKind) -> None:
    batch = draw(kind)
    assert batch.weights is not None
    repeated = torch.arange(len(batch.logits)).repeat_interleave(batch.weights.long())
    again = replace(batch, weights=None).at(repeated).compared()
    found = batch.compared()
    assert_same(replace(found, pairs=()), replace(again, pairs=()))
    for pair, other in zip(found.pairs, again.pairs, strict=True):
        # The angle differs: one gradient of twice the length is not two of them side by side.
        assert pair.spearman == other.spearman


def test_labels_that_turn_out_to_be_distributions() -> None:
    batch = draw("probabilities", odd=False)
    batch = replace(batch, options=replace(batch.options, label_kind="auto"))
    certain = (batch.labels == 1).any(dim=1)
    hard, soft = batch.at(certain.nonzero()[:, 0]), batch.at((~certain).nonzero()[:, 0])
    evaluation = hard.seen()
    assert evaluation.seen.kind == "one_hot"
    evaluation.update(soft.logits, soft.labels, soft.weights)
    order = torch.cat([certain.nonzero()[:, 0], (~certain).nonzero()[:, 0]])
    assert_same(evaluation.comparison(), batch.at(order).compared())


def test_the_batch_is_kept_only_where_its_labels_are_read_again() -> None:
    for kind in KINDS:
        assert bool(draw(kind).seen().seen.chunks) == (kind == "probabilities")


def test_the_results_are_those_without_a_comparison() -> None:
    batch = draw("integer")
    plain = Evaluation(batch.specs, options=batch.options, class_counts=range(1, 7))
    plain.update(batch.logits, batch.labels, batch.weights)
    for found, expected in zip(batch.seen().result(), plain.result(), strict=True):
        assert found == expected


def test_comparing_is_asked_for_and_stays_with_the_batch() -> None:
    plain, comparing = (Evaluation([spec("sparse")], compare=each) for each in (False, True))
    with pytest.raises(InvalidSetting, match="compare=True"):
        plain.comparison()
    with pytest.raises(CannotMerge, match="differ"):
        comparing.merge(plain)
    with pytest.raises(CannotMerge, match="compare"):
        comparing.state_dict()


def test_a_comparison_can_be_cancelled() -> None:
    stop = False
    evaluation = Evaluation([spec("label-smoothing")], compare=True, cancelled=lambda: stop)
    evaluation.update(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    stop = True
    with pytest.raises(Cancelled):
        evaluation.comparison()


def test_batches_of_any_shape() -> None:
    logits, labels = torch.randn(4, 3, 2, 5), torch.randint(3, (4, 2, 5))
    specs = [spec("sparse"), spec("label-smoothing")]
    rows = compared(logits.movedim(1, -1).reshape(-1, 3), labels.flatten(), *specs)
    assert_same(compared(logits, labels, *specs), rows)
    soft = torch.randn(4, 3, 2, 5).softmax(dim=1)
    specs = [spec("categorical"), spec("focal")]
    rows = compared(
        logits.movedim(1, -1).reshape(-1, 3), soft.movedim(1, -1).reshape(-1, 3), *specs
    )
    assert_same(compared(logits, soft, *specs), rows)


def test_what_is_derived_from_the_batch_is_the_batchs() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 2, 2])
    derived = [spec("weighted", class_weights="balanced")]
    derived += [
        spec(slug) for slug in ("class-balanced", "logit-adjusted", "balanced-softmax", "ldam")
    ]
    prior = torch.tensor([3, 1, 2], dtype=torch.float64).log().expand(6, 3)
    found = compared(logits, labels, *derived).variants
    for variant, result in zip(found, evaluate(prior, labels, derived), strict=True):
        assert variant.prior_sum == pytest.approx(result.reduction.sum, rel=1e-13)
