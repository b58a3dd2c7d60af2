"""What is answered beside the loss, against loops that do what the documentation says."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (PyTorch's own name for it)

from tests.xentcore.conftest import Batch, ask, draw, name_of, spec
from tests.xentcore.oracle import CASES, Case, gradients, losses
from xentcore import InvalidProbability, InvalidSetting, Options, Output, Result, Spec
from xentcore.options import GRADIENT_DTYPES, InputKind, Normaliser

INF, NAN = math.inf, math.nan
ROWS = 24
BY_NAME = {case.name: case for case in CASES}
SPARSE = spec("sparse")


def column(result: Result, name: str) -> Tensor:
    assert result.per_class is not None
    return result.per_class[name]


def assert_close(found: Tensor, expected: Tensor, relative: float, absolute: float = 0.0) -> None:
    torch.testing.assert_close(
        found.double(), expected.double(), rtol=relative, atol=absolute, equal_nan=True
    )


# Per class


@dataclass
class Loop:
    """A batch row by row: what each row, or each element, adds to its class."""

    columns: dict[str, Tensor]

    @classmethod
    def empty(cls, classes: int, *names: str) -> "Loop":
        return cls({name: torch.zeros(classes, dtype=torch.float64) for name in names})

    def add(self, cls: int, **amounts: float) -> None:
        for name, amount in amounts.items():
            self.columns[name][cls] += amount


def softmax_loop(case: Case, batch: Batch, weights: Tensor) -> Mapping[str, Tensor]:
    rows, classes = batch.logits.shape
    z, t = batch.logits.double(), batch.targets.double()
    loss, slope = (f(case.loss, batch.logits, batch.targets) for f in (losses, gradients))
    class_weights = torch.tensor(case.weights or (1.0,) * classes, dtype=torch.float64)
    found = Loop.empty(classes, "support", "weight", "loss_sum", "hits", "predicted", "norm")
    for r in range(rows):
        label, prediction, s = int(t[r].argmax()), int(z[r].argmax()), weights[r].item()
        found.add(
            label,
            support=1,
            weight=s * float(class_weights @ t[r]),
            loss_sum=s * loss[r].item(),
            hits=label == prediction,
            norm=s * slope[r].norm().item(),
        )
        found.add(prediction, predicted=1)
    columns = found.columns
    return {
        "support": columns["support"],
        "weight": columns["weight"],
        "loss_sum": columns["loss_sum"],
        "loss_share": columns["loss_sum"] / columns["loss_sum"].sum(),
        "recall": columns["hits"] / columns["support"],
        "predicted": columns["predicted"],
        "mean_probability": z.softmax(1).mean(0).masked_fill(columns["support"] == 0, NAN),
        "gradient_norm_mean": columns["norm"] / columns["support"],
        "gradient_sum": (weights[:, None] * slope).sum(0),
    }


PER_CLASS_SOFTMAX = [
    ("sparse", "integer"),
    ("sparse-weights", "integer"),
    ("categorical-weights", "probabilities"),
    ("smoothing-weights", "integer"),
    ("smoothing-others", "one_hot"),
    ("focal", "integer"),
    ("focal-gamma-5-alpha-per-class", "probabilities"),
]
PER_CLASS_SIGMOID = [
    ("binary", "multi_hot"),
    ("binary-weights-per-class", "multi_hot"),
    ("binary-positive-smoothing", "probabilities"),
    ("focal-sigmoid-alpha-per-class", "integer"),
    ("focal-sigmoid", "binary"),
]


def with_absent_class(batch: Batch) -> Batch:
    """Relabel a batch so that its class 3 has no row."""
    if batch.targets.is_floating_point() or batch.targets.shape[1] == 1:
        return batch
    index = batch.targets.argmax(1)
    index = torch.where(index == 3, 4, index)
    targets = F.one_hot(index, 5)
    return Batch(batch.logits, index if batch.labels.ndim == 1 else targets, targets)


def test_more_classes_than_float32_can_count_are_predicted_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits, labels = torch.randn(50, 40), torch.arange(50) % 40
    expected = ask(SPARSE, logits, labels, outputs={"per_class"}).per_class
    monkeypatch.setattr("xentcore.constants.EXACT_IN_FLOAT32", 39)
    found = ask(SPARSE, logits, labels, outputs={"per_class"}).per_class
    assert found is not None
    assert expected is not None
    assert found["predicted"].equal(expected["predicted"])
    assert found["predicted"].sum() == 50


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize(("name", "kind"), PER_CLASS_SOFTMAX)
def test_softmax_columns_are_those_of_a_loop_over_rows(
    name: str, kind: str, dtype: torch.dtype, device: torch.device
) -> None:
    case, batch = BY_NAME[name], with_absent_class(draw(kind, ROWS, dtype))
    weights = torch.arange(ROWS, dtype=torch.float64).remainder(5) / 4
    result = ask(
        case.spec,
        batch.logits,
        batch.labels,
        sample_weights=weights,
        outputs={"per_class"},
        options=Options(reduction="sum"),
        device=device,
    )
    expected = softmax_loop(case, batch, weights)
    relative, absolute = (1e-12, 1e-13) if dtype == torch.float64 else (5e-6, 2e-6)
    for column_name, exact in expected.items():
        assert_close(column(result, column_name), exact, relative, absolute)
    assert column(result, "class").tolist() == [0, 1, 2, 3, 4]


def sigmoid_loop(case: Case, batch: Batch, weights: Tensor) -> Mapping[str, Tensor]:
    rows, classes = batch.logits.shape
    z, t = batch.logits.double(), batch.targets.double()
    slope = gradients(case.loss, batch.logits, batch.targets)
    sums = ("weight", "positive_loss_sum", "negative_loss_sum", "norm", "gradient_sum")
    counts = ("true_positives", "false_positives", "true_negatives", "false_negatives")
    found = Loop.empty(classes, *sums, *counts)
    class_weights = case.weights or (1.0,) * classes
    for c in range(classes):
        alone = element_losses(case, batch, c)
        for r in range(rows):
            s, positive, predicted = weights[r].item(), bool(t[r, c] >= 0.5), bool(z[r, c] >= 0)
            side = "positive" if positive else "negative"
            name = f"{'true' if positive == predicted else 'false'}_"
            name += "positives" if predicted else "negatives"
            found.add(c, **{f"{side}_loss_sum": s * alone[r].item(), name: 1})
            found.add(
                c,
                weight=s * class_weights[c] * t[r, c].item(),
                norm=s * abs(slope[r, c].item()),
                gradient_sum=s * slope[r, c].item(),
            )
    columns = found.columns
    positives = columns["true_positives"] + columns["false_negatives"]
    loss_sum = columns["positive_loss_sum"] + columns["negative_loss_sum"]
    return {
        **{name: columns[name] for name in (*sums, *counts) if name != "norm"},
        "support": torch.full((classes,), float(rows)),
        "positives": positives,
        "negatives": rows - positives,
        "predicted": columns["true_positives"] + columns["false_positives"],
        "recall": columns["true_positives"] / positives,
        "loss_sum": loss_sum,
        "loss_share": loss_sum / loss_sum.sum(),
        "mean_probability": z.sigmoid().mean(0),
        "gradient_norm_mean": columns["norm"] / rows,
    }


def element_losses(case: Case, batch: Batch, cls: int) -> Tensor:
    """Return what one class adds to the loss of each row, (rows,)."""
    if not any(isinstance(value, tuple) for value in case.settings.values()):
        # All classes are treated alike: one column is a batch of its own.
        return losses(case.loss, batch.logits[:, [cls]], batch.targets[:, [cls]])
    # Hard labels: an element that is certain of what is so costs nothing.
    certain = torch.where(batch.targets == 1, 2000.0, -2000.0)
    own = torch.arange(batch.logits.shape[1]) == cls
    return losses(case.loss, torch.where(own, batch.logits.double(), certain), batch.targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize(("name", "kind"), PER_CLASS_SIGMOID)
def test_sigmoid_columns_are_those_of_a_loop_over_elements(
    name: str, kind: str, dtype: torch.dtype, device: torch.device
) -> None:
    case, batch = BY_NAME[name], draw(kind, ROWS, dtype)
    weights = torch.arange(ROWS, dtype=torch.float64).remainder(5) / 4
    result = ask(
        case.spec,
        batch.logits,
        batch.labels,
        sample_weights=weights,
        outputs={"per_class"},
        options=Options(reduction="sum"),
        device=device,
    )
    expected = sigmoid_loop(case, batch, weights)
    relative, absolute = (1e-12, 1e-13) if dtype == torch.float64 else (5e-6, 2e-6)
    for column_name, exact in expected.items():
        assert_close(column(result, column_name), exact, relative, absolute)


@pytest.mark.parametrize("normaliser", get_args(Normaliser))
@pytest.mark.parametrize(("name", "kind"), [*PER_CLASS_SOFTMAX, *PER_CLASS_SIGMOID])
def test_per_class_sums_add_up_to_those_of_the_batch(
    name: str, kind: str, normaliser: Normaliser
) -> None:
    case, batch = BY_NAME[name], draw(kind, ROWS, torch.float64)
    options = Options(normaliser=normaliser)
    outputs: set[Output] = {"per_class", "gradient"}
    result = ask(case.spec, batch.logits, batch.labels, outputs=outputs, options=options)
    assert column(result, "loss_sum").sum().item() == pytest.approx(result.reduction.sum, rel=1e-12)
    assert result.gradient is not None
    by_column = result.gradient.reshape(ROWS, -1).sum(0)
    assert_close(column(result, "gradient_sum"), by_column, 1e-10, 1e-14)


@pytest.mark.parametrize("normaliser", get_args(Normaliser))
@pytest.mark.parametrize(("name", "kind"), PER_CLASS_SOFTMAX)
def test_a_class_is_averaged_over_its_share_of_the_denominator(
    name: str, kind: str, normaliser: Normaliser
) -> None:
    case, batch = BY_NAME[name], with_absent_class(draw(kind, ROWS, torch.float64))
    options = Options(normaliser=normaliser)
    result = ask(case.spec, batch.logits, batch.labels, outputs={"per_class"}, options=options)
    support = column(result, "support")
    share = {"weights": column(result, "weight"), "rows": support, "elements": 5 * support}
    expected = column(result, "loss_sum") / share[normaliser]
    assert_close(column(result, "loss_mean"), expected.masked_fill(support == 0, NAN), 1e-12)
    assert share[normaliser].sum().item() == pytest.approx(result.reduction.denominator, rel=1e-12)


@pytest.mark.parametrize(("normaliser", "classes"), [("elements", 5), ("rows", 1)])
def test_a_sigmoid_class_is_averaged_over_its_elements(
    normaliser: Normaliser, classes: int
) -> None:
    batch = draw("multi_hot", ROWS, torch.float64)
    options = Options(normaliser=normaliser)
    result = ask(spec("binary"), batch.logits, batch.labels, outputs={"per_class"}, options=options)
    means = column(result, "loss_sum") / ROWS
    assert_close(column(result, "loss_mean"), means, 1e-12)
    assert result.loss == pytest.approx(means.sum().item() / classes, rel=1e-12)


def test_a_class_without_rows_has_no_means() -> None:
    result = ask(SPARSE, torch.randn(4, 3), torch.tensor([0, 0, 2, 0]), outputs={"per_class"})
    for name in ("loss_mean", "recall", "mean_probability", "gradient_norm_mean"):
        assert column(result, name).isnan().tolist() == [False, True, False]
    for name in ("support", "weight", "loss_sum", "loss_share"):
        assert column(result, name)[1].item() == 0


def test_a_class_without_positives_has_no_recall() -> None:
    labels = torch.tensor([[1, 0], [0, 0]])
    result = ask(spec("binary"), torch.randn(2, 2), labels, outputs={"per_class"})
    assert column(result, "recall").isnan().tolist() == [False, True]
    assert column(result, "mean_probability").isfinite().all()


@pytest.mark.parametrize(("name", "kind"), [*PER_CLASS_SOFTMAX, *PER_CLASS_SIGMOID[:2]])
def test_classes_beyond_the_limit_are_folded_into_one_row(name: str, kind: str) -> None:
    case, batch = BY_NAME[name], draw(kind, ROWS, torch.float64)
    full = ask(case.spec, batch.logits, batch.labels, outputs={"per_class"})
    options = Options(per_class_limit=2)
    result = ask(case.spec, batch.logits, batch.labels, outputs={"per_class"}, options=options)
    order = column(full, "loss_sum").argsort(descending=True, stable=True)
    assert column(result, "class").tolist() == [*order[:2].tolist(), -1]
    assert result.per_class is not None
    for column_name, values in result.per_class.items():
        if column_name != "class":
            assert_close(values[:2], column(full, column_name)[order[:2]], 1e-12)
    for summed in ("support", "weight", "loss_sum", "loss_share", "predicted", "gradient_sum"):
        rest = column(full, summed)[order[2:]].sum()
        assert_close(column(result, summed)[2], rest, 1e-12, 1e-13)


@pytest.mark.parametrize(("name", "kind"), [PER_CLASS_SOFTMAX[1], PER_CLASS_SIGMOID[0]])
def test_the_folded_rows_means_are_those_of_its_sums(name: str, kind: str) -> None:
    case, batch = BY_NAME[name], draw(kind, ROWS, torch.float64)
    full = ask(case.spec, batch.logits, batch.labels, outputs={"per_class"})
    options = Options(per_class_limit=2)
    result = ask(case.spec, batch.logits, batch.labels, outputs={"per_class"}, options=options)
    rest = column(full, "loss_sum").argsort(descending=True, stable=True)[2:]
    support = column(full, "support")[rest]
    norms = (column(full, "gradient_norm_mean")[rest] * support).nansum()
    assert_close(column(result, "gradient_norm_mean")[2], norms / support.sum(), 1e-12)
    share = (column(full, "loss_sum") / column(full, "loss_mean"))[rest].nansum()
    mean = column(full, "loss_sum")[rest].sum() / share
    assert_close(column(result, "loss_mean")[2], mean, 1e-12)


@pytest.mark.parametrize("limit", [5, 6, 1000])
def test_a_limit_that_is_not_exceeded_folds_nothing(limit: int) -> None:
    batch = draw("integer", ROWS, torch.float32)
    options = Options(per_class_limit=limit)
    result = ask(SPARSE, batch.logits, batch.labels, outputs={"per_class"}, options=options)
    assert column(result, "class").tolist() == [0, 1, 2, 3, 4]


# Distribution


@pytest.mark.parametrize("name", ["sparse", "focal", "smoothing", "binary"])
@pytest.mark.parametrize("rows", [1, 2, 3, 100, 1000])
def test_quantiles_are_within_a_percent_of_the_rows_own(name: str, rows: int) -> None:
    batch = draw("integer", rows, torch.float64)
    outputs: set[Output] = {"distribution", "per_sample"}
    result = ask(BY_NAME[name].spec, batch.logits, batch.labels, outputs=outputs)
    assert result.per_sample is not None
    ordered = result.per_sample.sort().values
    found = result.distribution
    assert found is not None
    assert (found.minimum, found.maximum) == (ordered[0].item(), ordered[-1].item())
    for share, quantile in ((0.5, found.p50), (0.9, found.p90), (0.99, found.p99)):
        exact = ordered[math.ceil(share * rows) - 1].item()
        assert quantile == pytest.approx(exact, rel=0.01, abs=1e-12)


def test_buckets_hold_the_rows_between_their_edges() -> None:
    batch = draw("integer", 500, torch.float64)
    outputs: set[Output] = {"distribution", "per_sample"}
    result = ask(spec("focal"), batch.logits, batch.labels, outputs=outputs)
    found = result.distribution
    assert found is not None
    assert result.per_sample is not None
    for lower, upper, count in zip(found.lower, found.upper, found.count, strict=True):
        inside = (result.per_sample > lower) & (result.per_sample <= upper)
        assert int(inside.sum()) == count.item()
    assert int(found.count.sum()) == 500
    assert (found.lower[1:] >= found.lower[:-1]).all()
    positive = found.lower > 0
    assert (found.upper[positive] / found.lower[positive] <= 1.0203).all()


def test_losses_of_zero_and_beyond_a_trillion_are_counted_too() -> None:
    logits = torch.tensor([[0.0, -INF], [0.0, 1e30], [0.0, 1.0]], dtype=torch.float64)
    outputs: set[Output] = {"distribution"}
    found = ask(SPARSE, logits, torch.tensor([0, 0, 0]), outputs=outputs).distribution
    assert found is not None
    assert int(found.count.sum()) == 3
    assert (found.minimum, found.maximum) == (0.0, 1e30)
    assert found.p50 == pytest.approx(math.log(1 + math.e), rel=0.01)


# Calibration


def assert_bins(result: Result, confidence: Tensor, hits: Tensor) -> None:
    """Check reliability bins and ECE against a loop over decisions."""
    found = result.calibration
    assert found is not None
    assert found.lower.tolist() == pytest.approx([b / 15 for b in range(15)])
    assert found.upper.tolist() == pytest.approx([(b + 1) / 15 for b in range(15)])
    ece = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        count = int(inside.sum())
        assert found.count[b].item() == count
        if not count:
            assert found.accuracy[b].isnan()
            assert found.confidence_mean[b].isnan()
            continue
        accuracy, mean = hits[inside].double().mean().item(), confidence[inside].mean().item()
        assert found.accuracy[b].item() == pytest.approx(accuracy, rel=1e-9)
        assert found.confidence_mean[b].item() == pytest.approx(mean, rel=1e-9)
        ece += count / len(confidence) * abs(accuracy - mean)
    assert found.ece == pytest.approx(ece, rel=1e-9)


def test_softmax_calibration_is_of_the_predictions_confidence() -> None:
    batch = draw("integer", 200, torch.float64)
    result = ask(SPARSE, batch.logits, batch.labels, outputs={"calibration"})
    confidence, prediction = batch.logits.softmax(1).max(1)
    assert_bins(result, confidence, prediction == batch.labels)


@pytest.mark.parametrize("kind", ["multi_hot", "probabilities"])
def test_sigmoid_calibration_is_of_every_elements_probability(kind: str) -> None:
    batch = draw(kind, 60, torch.float64)
    result = ask(spec("binary"), batch.logits, batch.labels, outputs={"calibration"})
    assert_bins(result, batch.logits.sigmoid().flatten(), batch.targets.flatten())


def calibration_scores(kind: str, asked: Spec, dtype: torch.dtype) -> tuple[float, float]:
    batch = draw(kind, 100, dtype)
    found = ask(asked, batch.logits, batch.labels, outputs={"calibration"}).calibration
    assert found is not None
    assert found.brier is not None
    assert found.entropy_mean is not None
    return found.brier, found.entropy_mean


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize("kind", ["one_hot", "probabilities"])
def test_the_brier_score_is_the_mean_squared_distance_of_p_and_t(
    kind: str, dtype: torch.dtype
) -> None:
    batch = draw(kind, 100, dtype)
    exact = (batch.logits.double().softmax(1) - batch.targets).square().sum(1).mean().item()
    brier, _ = calibration_scores(kind, spec("categorical"), dtype)
    assert brier == pytest.approx(exact, rel=1e-12 if dtype == torch.float64 else 2e-6)


def test_the_sigmoid_brier_score_is_that_of_elements() -> None:
    batch = draw("multi_hot", 100, torch.float64)
    exact = (batch.logits.sigmoid() - batch.targets).square().mean().item()
    assert calibration_scores("multi_hot", spec("binary"), torch.float64)[0] == pytest.approx(
        exact, rel=1e-12
    )


def test_the_mean_entropy_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    batch = draw("integer", 100, torch.float64)
    exact = stats.entropy(batch.logits.softmax(1).numpy(), axis=1).mean()
    assert calibration_scores("integer", SPARSE, torch.float64)[1] == pytest.approx(
        exact, rel=1e-12
    )


def test_the_sigmoid_mean_entropy_is_that_of_elements() -> None:
    stats = pytest.importorskip("scipy.stats")
    batch = draw("multi_hot", 100, torch.float64)
    p = batch.logits.sigmoid().flatten()
    exact = stats.entropy(torch.stack([p, (-batch.logits).sigmoid().flatten()]).numpy()).mean()
    found = calibration_scores("multi_hot", spec("binary"), torch.float64)[1]
    assert found == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize("kind", ["integer", "probabilities"])
def test_infinite_logits_without_mass_leave_calibration_finite(
    kind: str, dtype: torch.dtype
) -> None:
    logits = torch.tensor([[-INF, 1.0, 2.0], [-INF, 0.0, -INF]], dtype=dtype)
    soft = torch.tensor([[0.0, 0.5, 0.5], [0.0, 1.0, 0.0]])
    asked = SPARSE if kind == "integer" else spec("categorical")
    labels = torch.tensor([1, 1]) if kind == "integer" else soft
    found = ask(asked, logits, labels, outputs={"calibration"}).calibration
    assert found is not None
    p = 1 / (1 + math.e)
    entropy = -(p * math.log(p) + (1 - p) * math.log(1 - p))
    assert found.entropy_mean == pytest.approx(entropy / 2, rel=1e-6)
    assert found.brier is not None
    assert math.isfinite(found.brier)


# Hardest


def test_the_hardest_rows_are_those_of_largest_loss() -> None:
    batch = draw("integer", 100, torch.float64)
    outputs: set[Output] = {"hardest", "per_sample"}
    result = ask(SPARSE, batch.logits, batch.labels, outputs=outputs, options=Options(hardest=7))
    assert result.hardest is not None
    assert result.per_sample is not None
    order = result.per_sample.argsort(descending=True, stable=True)[:7].tolist()
    p = batch.logits.softmax(1)
    assert [row.row for row in result.hardest] == order
    for row in result.hardest:
        assert row.label == batch.labels[row.row].item()
        assert row.prediction == batch.logits[row.row].argmax().item()
        assert row.probability == pytest.approx(p[row.row].max().item(), rel=1e-12)
        assert row.loss == result.per_sample[row.row].item()
        assert row.class_index is None


def test_of_equally_hard_rows_the_earliest_count() -> None:
    logits = torch.zeros(20, 2)
    found = ask(SPARSE, logits, torch.arange(20) % 2, outputs={"hardest"}).hardest
    assert found is not None
    assert [row.row for row in found] == list(range(10))


def test_of_rows_that_tie_for_the_last_places_the_earliest_count() -> None:
    logits = torch.zeros(40, 2, dtype=torch.float64)
    logits[[7, 31], 0], logits[12, 0] = -1.0, 1.0  # two harder rows, and one that is not hard
    found = ask(SPARSE, logits, torch.zeros(40, dtype=torch.int64), outputs={"hardest"}).hardest
    assert found is not None
    assert [row.row for row in found] == [7, 31, 0, 1, 2, 3, 4, 5, 6, 8]


def test_there_are_no_more_hardest_rows_than_rows() -> None:
    found = ask(SPARSE, torch.randn(3, 2), torch.tensor([0, 1, 0]), outputs={"hardest"}).hardest
    assert found is not None
    assert len(found) == 3


@pytest.mark.parametrize("classes", [2, 31, 127, 128, 129, 159, 160, 161, 1000])
def test_the_prediction_is_the_first_of_equally_large_logits(
    classes: int, device: torch.device
) -> None:
    generator = torch.Generator().manual_seed(0)
    # Few distinct values: most rows have their largest logit several times, all over the row.
    logits = torch.randint(classes // 8 + 2, (60, classes), generator=generator).float()
    labels = torch.randint(classes, (60,), generator=generator)
    options = Options(hardest=60)
    result = ask(SPARSE, logits, labels, outputs={"hardest"}, options=options, device=device)
    assert result.hardest is not None
    found = {row.row: row.prediction for row in result.hardest}
    assert found == {r: row.index(max(row)) for r, row in enumerate(logits.tolist())}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
def test_the_hardest_sigmoid_rows_name_their_worst_class(dtype: torch.dtype) -> None:
    batch = draw("multi_hot", 50, dtype)
    result = ask(spec("binary"), batch.logits, batch.labels, outputs={"hardest", "per_sample"})
    assert result.hardest is not None
    assert result.per_sample is not None
    order = result.per_sample.argsort(descending=True, stable=True)[:10].tolist()
    assert [row.row for row in result.hardest] == order
    elements = F.binary_cross_entropy_with_logits(
        batch.logits.double(), batch.targets.double(), reduction="none"
    )
    for row in result.hardest:
        worst = int(elements[row.row].argmax())
        logit = batch.logits[row.row, worst].double()
        assert row.class_index == worst
        assert row.label == batch.labels[row.row, worst].item()
        assert row.prediction == int(logit >= 0)
        assert row.prediction != row.label


# Row statistics


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize("kind", ["integer", "one_hot", "probabilities"])
def test_row_statistics_are_what_they_are_defined_to_be(
    kind: str, dtype: torch.dtype, device: torch.device
) -> None:
    batch = draw(kind, 40, dtype)
    asked = SPARSE if kind == "integer" else spec("categorical")
    result = ask(asked, batch.logits, batch.labels, outputs={"row_statistics"}, device=device)
    found = result.row_statistics
    assert found is not None
    z, t = batch.logits.double(), batch.targets.double()
    p, label = z.softmax(1), t.argmax(1)
    at_label = z.gather(1, label[:, None])
    best_other = z.masked_fill(F.one_hot(label, 5).bool(), -INF).max(1).values
    tolerance = (1e-12, 1e-13) if dtype == torch.float64 else (2e-6, 1e-7)
    assert torch.equal(found["max_logit"], z.max(1).values)
    assert_close(found["max_logit"] + found["log_partition"], z.logsumexp(1), *tolerance)
    assert_close(found["target_probability"], (p * t).sum(1), *tolerance)
    assert_close(found["margin"], at_label[:, 0] - best_other, *tolerance)
    assert_close(found["entropy"], -torch.xlogy(p, p).sum(1), *tolerance)
    assert_close(found["el2n"], (p - t).norm(dim=1), *tolerance)
    assert torch.equal(found["rank"], (z > at_label).sum(1).double())


def test_a_rank_counts_only_classes_that_are_strictly_better() -> None:
    logits = torch.tensor([[1.0, 1.0, 0.0], [1.0, 2.0, 3.0]])
    result = ask(SPARSE, logits, torch.tensor([1, 0]), outputs={"row_statistics"})
    assert result.row_statistics is not None
    assert result.row_statistics["rank"].tolist() == [0, 2]
    assert result.row_statistics["margin"].tolist() == [0, -2]


def test_rows_that_are_not_evaluated_have_no_statistics() -> None:
    logits = torch.tensor([[NAN, 1.0], [0.0, 1.0], [2.0, 3.0]])
    result = ask(SPARSE, logits, torch.tensor([0, -100, 1]), outputs={"row_statistics"})
    assert result.row_statistics is not None
    for values in result.row_statistics.values():
        assert values.isnan().tolist() == [True, True, False]


def test_row_statistics_of_a_sigmoid_are_refused() -> None:
    with pytest.raises(InvalidSetting, match="softmax"):
        ask(spec("binary"), torch.randn(3), torch.tensor([0, 1, 1]), outputs={"row_statistics"})


# Diagnostics


def codes(result: Result) -> dict[str, int]:
    return {diagnostic.code: diagnostic.count for diagnostic in result.diagnostics}


def test_an_ordinary_batch_has_no_diagnostics() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    for asked in (SPARSE, spec("label-smoothing"), spec("focal"), spec("binary")):
        assert codes(ask(asked, logits, labels)) == {}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=name_of)
def test_probabilities_sent_as_logits_are_noticed_and_the_floor_is_stated(
    dtype: torch.dtype,
) -> None:
    p = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).softmax(1).to(dtype)
    result = ask(SPARSE, p, torch.tensor([0, 1, 2, 0, 1, 2]))
    assert codes(result) == {"double_softmax": 6}
    assert f"{math.log(math.e + 2) - 1:.6g}" in result.diagnostics[0].message


def test_the_loss_of_a_double_softmax_cannot_fall_below_the_stated_floor() -> None:
    result = ask(SPARSE, torch.eye(3), torch.tensor([0, 1, 2]))
    assert "double_softmax" in codes(result)
    assert result.loss == pytest.approx(math.log(math.e + 2) - 1, rel=1e-6)


@pytest.mark.parametrize(
    ("asked", "logits", "options"),
    [
        # One row that is no distribution; a sum of 1 with a negative entry; stated probabilities.
        (SPARSE, [[0.2, 0.3, 0.5], [0.2, 0.3, 0.6]], Options()),
        (SPARSE, [[0.2, 0.3, 0.5], [-0.2, 0.6, 0.6]], Options()),
        (SPARSE, [[0.2, 0.3, 0.5], [0.1, 0.3, 0.6]], Options(input="probabilities")),
        # Sigmoid: scores in [0, 1] that sum to 1 are nothing special.
        (spec("binary"), [[0.2, 0.3, 0.5], [0.1, 0.3, 0.6]], Options()),
    ],
    ids=["sum", "sign", "stated", "sigmoid"],
)
def test_a_double_softmax_is_not_suspected_without_cause(
    asked: Spec, logits: list[list[float]], options: Options
) -> None:
    result = ask(asked, torch.tensor(logits), torch.tensor([0, 1]), options=options)
    assert "double_softmax" not in codes(result)


def test_losses_that_vanish_are_counted() -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0], [0.0, 1.0]])
    result = ask(SPARSE, logits, torch.tensor([0, 1, 0]))
    assert codes(result) == {"saturated": 2}


@pytest.mark.parametrize("spread", ["uniform", "others"])
def test_a_smoothed_loss_of_certain_rows_does_not_vanish(spread: str) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]])
    result = ask(spec("label-smoothing", spread=spread), logits, torch.tensor([0, 1]))
    assert "saturated" not in codes(result)


@pytest.mark.parametrize(
    "asked",
    [
        spec("sparse", class_weights=(0.0, 0.0)),
        spec("focal", alpha=0.0),
        spec("binary", class_weights=(0.0, 0.0)),
    ],
    ids=name_of,
)
def test_a_loss_without_weight_is_not_a_loss_that_vanishes(asked: Spec) -> None:
    result = ask(asked, torch.tensor([[0.5, 0.0], [0.0, 0.5]]), torch.tensor([0, 1]))
    assert "saturated" not in codes(result)


def test_double_precision_does_not_saturate_where_single_does() -> None:
    logits, labels = torch.tensor([[200.0, 0.0], [0.0, 200.0]]), torch.tensor([0, 1])
    assert codes(ask(SPARSE, logits, labels)) == {"saturated": 2}
    assert codes(ask(SPARSE, logits.double(), labels)) == {}


def test_sigmoid_losses_that_vanish_are_counted() -> None:
    result = ask(spec("binary"), torch.tensor([200.0, -200.0, 1.0]), torch.tensor([1, 0, 1]))
    assert codes(result) == {"saturated": 2}


def test_rows_that_are_not_finite_are_counted_by_cause() -> None:
    logits = torch.tensor([[NAN, 0.0], [INF, 0.0], [-INF, 0.0], [0.0, 1.0], [1.0, 0.0]])
    result = ask(SPARSE, logits, torch.tensor([0, 0, 0, 0, 1]))
    assert codes(result) == {"nonfinite": 2, "infinite_loss": 1}


def test_absent_classes_are_counted() -> None:
    assert codes(ask(SPARSE, torch.randn(2, 5), torch.tensor([0, 3]))) == {"absent_classes": 3}


def test_sigmoid_classes_without_a_positive_are_counted() -> None:
    labels = torch.tensor([[1, 0, 0], [1, 1, 0]])
    assert codes(ask(spec("binary"), torch.randn(2, 3), labels)) == {"absent_classes": 1}


def test_a_single_class_is_named() -> None:
    found = codes(ask(SPARSE, torch.randn(4, 2), torch.tensor([1, 1, 1, 1])))
    assert found == {"absent_classes": 1, "single_class": 4}


@pytest.mark.parametrize("label", [0, 1])
def test_a_single_yes_or_no_is_named(label: int) -> None:
    found = codes(ask(spec("binary"), torch.randn(4), torch.full((4,), label)))
    assert found["single_class"] == 4


@pytest.mark.parametrize(
    ("weights", "normaliser", "cancel"),
    [
        ((1.0, 2.0), None, True),
        ((1.0, 2.0), "rows", False),
        ((2.0, 2.0), None, False),
    ],
)
def test_weights_cancel_where_one_class_is_divided_by_its_own(
    weights: tuple[float, ...], normaliser: Normaliser | None, cancel: bool
) -> None:
    result = ask(
        spec("sparse", class_weights=weights),
        torch.randn(4, 2),
        torch.tensor([1, 1, 1, 1]),
        options=Options(normaliser=normaliser),
    )
    assert ("weights_cancel" in codes(result)) == cancel


def test_nothing_evaluated_is_said_alone() -> None:
    result = ask(SPARSE, torch.randn(2, 2), torch.tensor([-100, -100]))
    assert [diagnostic.code for diagnostic in result.diagnostics] == ["nothing_evaluated"]


# What the input states


@pytest.mark.parametrize("asked", [SPARSE, spec("label-smoothing"), spec("focal")], ids=name_of)
def test_log_probabilities_give_what_their_logits_give(asked: Spec) -> None:
    batch = draw("integer", ROWS, torch.float64)
    expected = ask(asked, batch.logits, batch.labels, outputs={"gradient"})
    options = Options(input="log_probabilities")
    log_p = batch.logits.log_softmax(1)
    found = ask(asked, log_p, batch.labels, outputs={"gradient"}, options=options)
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    assert found.gradient is not None
    assert expected.gradient is not None
    assert_close(found.gradient, expected.gradient, 1e-11, 1e-14)


@pytest.mark.parametrize("asked", [SPARSE, spec("label-smoothing"), spec("focal")], ids=name_of)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_probabilities_are_renormalised(asked: Spec, scale: float) -> None:
    logits = draw("integer", ROWS, torch.float64).logits.clamp(-8, 8)
    labels = draw("integer", ROWS, torch.float64).labels
    options = Options(input="probabilities")
    found = ask(asked, scale * logits.softmax(1), labels, options=options)
    assert found.loss == pytest.approx(ask(asked, logits, labels).loss, rel=1e-12)


@pytest.mark.parametrize("asked", [spec("binary"), spec("focal")], ids=name_of)
def test_sigmoid_probabilities_give_what_their_logits_give(asked: Spec) -> None:
    batch = draw("multi_hot", ROWS, torch.float64)
    logits = batch.logits.clamp(-8, 8)
    expected = ask(asked, logits, batch.labels).loss
    p = ask(asked, logits.sigmoid(), batch.labels, options=Options(input="probabilities"))
    log_p = F.logsigmoid(logits)
    options = Options(input="log_probabilities")
    assert p.loss == pytest.approx(expected, rel=1e-12)
    assert ask(asked, log_p, batch.labels, options=options).loss == pytest.approx(
        expected, rel=1e-12
    )


def test_a_probability_of_0_is_not_clipped_in_silence() -> None:
    p = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    result = ask(SPARSE, p, torch.tensor([0, 0]), options=Options(input="probabilities"))
    assert result.rows.infinite == 1
    assert result.loss == pytest.approx(math.log(2))
    right = ask(SPARSE, p[:1], torch.tensor([1]), options=Options(input="probabilities"))
    assert right.loss == 0


def test_a_probability_floor_clips_as_keras_does() -> None:
    options = Options(input="probabilities", probability_floor=1e-7)
    p = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    assert ask(SPARSE, p, torch.tensor([0]), options=options).loss == pytest.approx(
        -math.log(1e-7), rel=1e-7
    )
    certain = torch.tensor([0.0, 1.0], dtype=torch.float64)
    found = ask(spec("binary"), certain, torch.tensor([1, 0]), options=options)
    assert found.loss == pytest.approx(-math.log(1e-7), rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("probabilities", -0.1), ("probabilities", 1.5), ("log_probabilities", 0.5)],
)
def test_numbers_that_are_not_what_is_stated_are_refused(kind: InputKind, value: float) -> None:
    numbers = torch.tensor([[0.0, 0.0], [0.0, value]])
    options = Options(input=kind)
    with pytest.raises(InvalidProbability, match=r"\(1, 1\)"):
        ask(SPARSE, numbers, torch.tensor([0, 0]), options=options)


def test_a_probability_floor_needs_probabilities() -> None:
    with pytest.raises(InvalidSetting, match="probability_floor"):
        Options(probability_floor=1e-7)


# Dtypes, and rows by themselves


@pytest.mark.parametrize("dtype", GRADIENT_DTYPES, ids=name_of)
@pytest.mark.parametrize("asked", GRADIENT_DTYPES, ids=name_of)
def test_the_gradient_has_the_dtype_asked_for(dtype: torch.dtype, asked: torch.dtype) -> None:
    batch = draw("integer", 8, dtype)
    outputs: set[Output] = {"gradient"}
    default = ask(SPARSE, batch.logits, batch.labels, outputs=outputs).gradient
    options = Options(gradient_dtype=asked)
    found = ask(SPARSE, batch.logits, batch.labels, outputs=outputs, options=options).gradient
    assert found is not None
    assert default is not None
    assert (default.dtype, found.dtype) == (dtype, asked)
    assert found.shape == batch.logits.shape
    coarser = max(torch.finfo(dtype).eps, torch.finfo(asked).eps)
    assert_close(found, default, coarser, 1e-7)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_without_a_reduction_rows_are_answered_one_by_one(case: Case) -> None:
    batch = draw(case.labels[0], ROWS, torch.float64, ranks=case.ranks)
    weights = torch.arange(ROWS, dtype=torch.float64).remainder(5) / 4
    options = Options(reduction="none")
    result = ask(case.spec, batch.logits, batch.labels, sample_weights=weights, options=options)
    assert (result.loss, result.undefined) == (None, None)
    assert result.per_sample is not None
    exact = weights * losses(case.loss, batch.logits, batch.targets)
    assert_close(result.per_sample.reshape(-1), exact, 1e-12, 1e-12)
    assert result.per_sample.sum().item() == pytest.approx(result.reduction.sum, rel=1e-12)
    assert result.row_status is not None
    assert not result.row_status.any()


def test_what_was_not_asked_for_is_none() -> None:
    result = ask(SPARSE, torch.randn(2, 2), torch.tensor([0, 1]))
    asked_for = (
        result.per_sample,
        result.row_status,
        result.gradient,
        result.per_class,
        result.distribution,
        result.calibration,
        result.hardest,
        result.row_statistics,
    )
    assert asked_for == (None,) * 8
