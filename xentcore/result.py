"""What an evaluation answers, and the only place where a sum is divided by a count."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from xentcore.options import Family, LabelKind, Normaliser
from xentcore.options import Reduction as ReductionName
from xentcore.variant import Settings

Undefined = Literal["no_rows", "zero_weight"]
Severity = Literal["info", "warning"]
NoEntropy = Literal[
    "no_rows", "zero_weight", "loss_not_finite", "prior_loss_infinite", "prior_loss_not_positive"
]
NoSpearman = Literal["too_few_rows", "constant_loss"]
NoCosine = Literal["zero_gradient", "gradient_not_finite"]


def ratio(total: float, count: float) -> float | None:
    """Return total / count, or ``None`` where nothing was counted: never a NaN made here."""
    return total / count if count else None


def ratios(total: Tensor, count: Tensor) -> Tensor:
    """Return total / count per element; NaN marks elements where nothing was counted."""
    return (total.double() / count.double()).masked_fill(count == 0, float("nan"))


@dataclass(frozen=True, slots=True)
class Reduction:
    """How the loss was reduced: ``sum / denominator`` is the mean, whatever was asked for."""

    name: ReductionName
    sum: float
    denominator: float
    normaliser: Normaliser


@dataclass(frozen=True, slots=True)
class Rows:
    """What became of the rows; ``evaluated`` is the rest of ``total``.

    Under ``nonfinite="propagate"`` rows with NaN or infinities are evaluated and still counted
    in ``nonfinite`` and ``infinite``.
    """

    total: int
    evaluated: int
    ignored: int
    nonfinite: int
    infinite: int


@dataclass(frozen=True, slots=True)
class Distribution:
    """Per-row losses from a histogram of logarithmic buckets (relative error at most 1 %).

    ``lower[i] < loss <= upper[i]`` holds for ``count[i]`` rows (mirrored below zero); only buckets
    that hold rows are listed, ascending. All in nats. Rows with a NaN or infinite loss are counted
    in ``rows``, never here.
    """

    minimum: float | None
    maximum: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    lower: Tensor
    upper: Tensor
    count: Tensor


@dataclass(frozen=True, slots=True)
class Calibration:
    """Reliability: 15 equal bins of confidence, each with its count, mean confidence and accuracy.

    Softmax family: confidence is the largest probability and accuracy the share of rows whose
    prediction is the label. Sigmoid family: every element counts, confidence is its probability and
    accuracy the share of positives. ``ece`` = sum_bins count/n * |accuracy - confidence|; ``brier``
    = mean of sum_c (p_c - t_c)^2 (per element for sigmoid); ``entropy_mean`` in nats. Means of bins
    that hold nothing are NaN.
    """

    lower: Tensor
    upper: Tensor
    count: Tensor
    confidence_mean: Tensor
    accuracy: Tensor
    ece: float | None
    brier: float | None
    entropy_mean: float | None


@dataclass(frozen=True, slots=True)
class HardRow:
    """One of the rows of largest loss. ``row`` counts rows in the order they were evaluated.

    ``probability`` is the prediction's.

    Sigmoid family: ``label`` and ``prediction`` are those of the class with the largest loss in the
    row, named by ``class_index``, and are 0 or 1.
    """

    row: int
    label: int
    prediction: int
    probability: float
    loss: float
    class_index: int | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Something about the batch that its sender should know. ``code`` is stable, for machines."""

    code: str
    severity: Severity
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class Result:
    """One variant's answer. What was not asked for is ``None``.

    Attributes:
        loss: the reduced loss in nats; ``None`` for reduction "none" and where it is undefined.
        undefined: why there is no mean: ``no_rows`` or ``zero_weight``.
        label_kind: how labels were read; ``None`` when no row decided it.
        per_sample: each row's contribution to the sum, all weights included, in the labels' shape;
            NaN for rows that are ignored or not finite, inf where the loss is.
        row_status: beside ``per_sample``: 0 evaluated, 1 ignored, 2 not finite, 3 infinite loss.
        gradient: d(reduced loss)/d(logits), in the logits' shape.
        per_class: columns of length ``classes`` by name; see :mod:`xentcore.summary`.
        row_statistics: columns in the rows' shape by name; softmax family only.
    """

    name: str
    variant: str
    family: Family
    settings: Settings
    loss: float | None
    undefined: Undefined | None
    reduction: Reduction
    rows: Rows
    classes: int
    label_kind: LabelKind | None
    per_sample: Tensor | None
    row_status: Tensor | None
    gradient: Tensor | None
    per_class: Mapping[str, Tensor] | None
    distribution: Distribution | None
    calibration: Calibration | None
    hardest: tuple[HardRow, ...] | None
    row_statistics: Mapping[str, Tensor] | None
    diagnostics: tuple[Diagnostic, ...]


@dataclass(frozen=True, slots=True)
class ComparedVariant:
    """What of one variant can be compared with another's.

    Attributes:
        name: what its answer is called.
        prior_sum: the prior predictor's loss on the evaluated rows, nats, all weights included;
            +inf where it is; ``None`` where there is no prior. See :mod:`xentcore.prior`.
        normalised_entropy: sum of the loss / ``prior_sum``. 1 is as good as knowing the class
            frequencies only, 0 is perfect. Both have the same denominator: means give the same.
        undefined: why there is no normalised entropy.
        class_share: columns ``class`` and ``share``: the class's part of the sum of the loss. Above
            ``per_class_limit`` the largest shares are listed, and the rest is one row of class -1.
            NaN where the sum is 0 or not finite.
    """

    name: str
    prior_sum: float | None
    normalised_entropy: float | None
    undefined: NoEntropy | None
    class_share: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """How alike two variants are on the batch.

    Attributes:
        a: place of the first in the list of variants.
        b: place of the second.
        rows: how many rows both evaluated, with a finite loss and a sample weight above 0.
        spearman: rank correlation of the losses of these rows, before sample weights; a row of
            weight 2 counts as two. See :mod:`xentcore.ranks`.
        spearman_undefined: why there is none: fewer than two rows, or one of the losses is the
            same for all of them.
        gradient_cosine: <g_a, g_b> / (|g_a| |g_b|) of the gradients of the sums of the losses, all
            rows and classes in one vector.
        gradient_cosine_undefined: why there is none.
    """

    a: int
    b: int
    rows: int
    spearman: float | None
    spearman_undefined: NoSpearman | None
    gradient_cosine: float | None
    gradient_cosine_undefined: NoCosine | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What can be compared: each variant, in their order, and each pair."""

    variants: tuple[ComparedVariant, ...]
    pairs: tuple[ComparedPair, ...]
