"""What of an evaluation is kept for later days: sums with their squares, and who the rows were.

Squares are what standard errors are made of. With x what a row adds to the sum of the loss and w
what it adds to the denominator, the mean m = sum x / sum w has by the delta method the variance
sum (x - m w)^2 / (sum w)^2 = (sum x^2 - 2 m sum x w + m^2 sum w^2) / (sum w)^2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from xentcore.answer import Question
from xentcore.options import Family, LabelKind
from xentcore.per_class import Sums
from xentcore.result import HardRow, Reduction, Rows
from xentcore.tally import Tally
from xentcore.variant import Settings

CLASS_COLUMNS: Final = (
    "support",
    "positives",
    "predicted",
    "true_positives",
    "weight",
    "loss_sum",
    "loss_square_sum",
    "loss_weight_sum",
    "weight_square_sum",
    "gradient_norm_sum",
    "gradient_norm_square_sum",
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The sums of one variant over a batch. All of them add up, but the extremes and ``hardest``.

    Attributes:
        reduction: the sum of the loss and its denominator.
        loss_square_sum, loss_weight_sum, weight_square_sum: over rows, of x^2, x w and w^2.
        prior_sum: the loss of the predictor that knows the class frequencies only, nats; ``None``
            where it is not finite and positive, or labels are distributions.
        loss_min, loss_max: of rows; ``None`` without any.
        class_sums: columns of :data:`CLASS_COLUMNS`, (classes,), int64 and float64; see
            :mod:`xentcore.per_class`. ``weight`` and its products are those of the normaliser.
        buckets: rows per bucket of the histogram of losses, (BUCKETS,), int64.
        bins: ``count``, ``hits`` and ``confidence_sum`` per bin of confidence, (15,).
        decisions: how many the bins count.
        brier_sum, brier_square_sum, entropy_sum: over decisions.
        hardest: the rows of largest loss.
        row_losses: x of each row, (rows,), float64, NaN where it is not evaluated; ``None`` unless
            rows are recorded. So are ``row_weights``: w, float64, and ``row_classes``: the label,
            int64, -1 where a row has none or (sigmoid family) one for each class.
    """

    variant: str
    family: Family
    settings: Settings
    classes: int
    label_kind: LabelKind | None
    reduction: Reduction
    rows: Rows
    loss_square_sum: float
    loss_weight_sum: float
    weight_square_sum: float
    prior_sum: float | None
    loss_min: float | None
    loss_max: float | None
    class_sums: Mapping[str, Tensor]
    buckets: Tensor
    bins: Mapping[str, Tensor]
    decisions: int
    brier_sum: float
    brier_square_sum: float
    entropy_sum: float
    hardest: tuple[HardRow, ...]
    row_losses: Tensor | None
    row_weights: Tensor | None
    row_classes: Tensor | None


def recorded(
    question: Question, tally: Tally, *, prior_sum: float | None, by_row: bool
) -> Recorded:
    """Return what is kept of one variant.

    Args:
        question: what was asked of it.
        tally: what it has seen, squares and all outputs of sums included.
        prior_sum: see :class:`Recorded`.
        by_row: whether rows are recorded.
    """
    summary = tally.summary
    histogram, calibration, hardest = summary.histogram, summary.calibration, summary.hardest
    if histogram is None or calibration is None or hardest is None or summary.squares is None:
        raise AssertionError("what is recorded was tallied")
    reduction = question.reduction(summary)
    rows = question.rows(summary)
    each = _each_weight(question, reduction)
    squares = summary.squares.tolist()
    if each is not None:
        squares[1:] = [each * reduction.sum, each**2 * rows.evaluated]
    counted = histogram.minimum <= histogram.maximum
    losses, weights, labels = _rows(tally, each) if by_row else (None, None, None)
    return Recorded(
        variant=question.variant,
        family=question.family,
        settings=question.settings,
        classes=question.classes,
        label_kind=question.label_kind,
        reduction=reduction,
        rows=rows,
        loss_square_sum=squares[0],
        loss_weight_sum=squares[1],
        weight_square_sum=squares[2],
        prior_sum=prior_sum,
        loss_min=histogram.minimum if counted else None,
        loss_max=histogram.maximum if counted else None,
        class_sums=_class_sums(summary.classes, question, each),
        buckets=histogram.counts,
        bins={
            "count": calibration.count,
            "hits": calibration.hits,
            "confidence_sum": calibration.confidence_sum,
        },
        decisions=int(calibration.count.sum()),
        brier_sum=calibration.brier_sum,
        brier_square_sum=calibration.brier_square_sum,
        entropy_sum=calibration.entropy_sum,
        hardest=tuple(hardest.rows),
        row_losses=losses,
        row_weights=weights,
        row_classes=labels,
    )


def _each_weight(question: Question, reduction: Reduction) -> float | None:
    """Return what every row adds to the denominator; ``None`` where that is its weight."""
    if reduction.normaliser == "weights":
        return None
    return 1.0 if reduction.normaliser == "rows" else float(question.classes)


def _class_sums(sums: Sums, question: Question, each: float | None) -> Sums:
    empty = torch.zeros(question.classes, dtype=torch.float64)
    found = {name: sums.get(name, empty).cpu() for name in CLASS_COLUMNS}
    if question.family == "softmax":
        found["positives"] = found["support"]
    if each is not None:
        # Of the sigmoid family an element is one of its row's: C of them weigh what the row does.
        each = each if question.family == "softmax" else 1.0
        found["weight"] = each * found["support"].double()
        found["loss_weight_sum"] = each * found["loss_sum"]
        found["weight_square_sum"] = each**2 * found["support"].double()
    return found


def _rows(tally: Tally, each: float | None) -> tuple[Tensor, Tensor, Tensor]:
    losses = tally.per_row.column("per_sample").reshape(-1)
    weights = tally.per_row.column("weight").reshape(-1)
    labels = tally.per_row.column("label").reshape(-1)
    if each is not None:
        weights = torch.full_like(losses, each)
    if not losses.isfinite().all():
        losses = losses.masked_fill(losses.isinf(), torch.nan)
        weights = weights.masked_fill(losses.isnan(), 0)
    return losses, weights, labels.nan_to_num(-1).long()
