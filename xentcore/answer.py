"""From the sums of one variant to its answer."""

from collections.abc import Collection
from dataclasses import dataclass

from xentcore.diagnostics import Evidence, diagnose
from xentcore.options import Family, LabelKind, Options, Output
from xentcore.per_class import Sums, columns
from xentcore.result import Reduction, Result, Rows, Undefined, ratio
from xentcore.row_outputs import STATISTICS_COLUMNS, RowOutputs
from xentcore.summary import Summary
from xentcore.variant import Settings


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of one variant.

    Attributes:
        name: what the answer is called.
        variant: the variant's slug.
        family: the family that serves the batch's labels.
        settings: as asked for.
        class_weights: those that enter the denominator, as resolved for this batch.
        options: how the batch is read and reduced.
        outputs: what the answer holds beside the loss.
        classes: how many.
        label_kind: as decided; ``None`` when no row decided it.
    """

    name: str
    variant: str
    family: Family
    settings: Settings
    class_weights: tuple[float, ...] | None
    options: Options
    outputs: Collection[Output]
    classes: int
    label_kind: LabelKind | None

    def reduction(self, summary: Summary) -> Reduction:
        """Return the sum and what the mean divides it by."""
        normaliser = self.options.normaliser
        if normaliser is None:
            normaliser = "weights" if self.family == "softmax" else "elements"
        evaluated = summary.rows.evaluated
        denominator = {
            "weights": summary.weight_sum,
            "rows": float(evaluated),
            "elements": float(evaluated * self.classes),
        }[normaliser]
        return Reduction(self.options.reduction, summary.loss_sum, denominator, normaliser)

    def gradient_scale(self, summary: Summary) -> float:
        """Return what the gradient of the sum is multiplied by: 0 where the mean is undefined."""
        if self.options.reduction != "mean":
            return 1.0
        return ratio(1.0, self.reduction(summary).denominator) or 0.0

    def rows(self, summary: Summary) -> Rows:
        """Return what became of the rows."""
        counts = summary.rows
        return Rows(
            total=counts.total,
            evaluated=counts.evaluated,
            ignored=counts.ignored,
            nonfinite=counts.nonfinite,
            infinite=counts.infinite,
        )

    def answer(self, summary: Summary, per_row: RowOutputs, evidence: Evidence) -> Result:
        """Return the answer, without its gradient."""
        reduction = self.reduction(summary)
        undefined: Undefined | None = None
        loss: float | None = None
        if self.options.reduction == "sum":
            loss = reduction.sum
        elif self.options.reduction == "mean":
            loss = ratio(reduction.sum, reduction.denominator)
            if loss is None:
                undefined = "zero_weight" if summary.rows.evaluated else "no_rows"
        weights = self.class_weights
        differ = weights is not None and len(set(weights)) > 1
        losses = "per_sample" in self.outputs or self.options.reduction == "none"
        return Result(
            name=self.name,
            variant=self.variant,
            family=self.family,
            settings=self.settings,
            loss=loss,
            undefined=undefined,
            reduction=reduction,
            rows=self.rows(summary),
            classes=self.classes,
            label_kind=self.label_kind,
            per_sample=per_row.column("per_sample") if losses else None,
            row_status=per_row.column("status") if losses else None,
            gradient=None,
            per_class=self._per_class(summary) if "per_class" in self.outputs else None,
            distribution=(
                summary.histogram.distribution()
                if summary.histogram is not None and "distribution" in self.outputs
                else None
            ),
            calibration=(
                summary.calibration.calibration()
                if summary.calibration is not None and "calibration" in self.outputs
                else None
            ),
            hardest=(
                tuple(summary.hardest.rows)
                if summary.hardest is not None and "hardest" in self.outputs
                else None
            ),
            row_statistics=(
                {name: per_row.column(name) for name in STATISTICS_COLUMNS}
                if "row_statistics" in self.outputs
                else None
            ),
            diagnostics=tuple(
                diagnose(
                    summary,
                    evidence if self.family == "softmax" else Evidence(),
                    classes=self.classes,
                    weighted=differ and reduction.normaliser == "weights",
                )
            ),
        )

    def _per_class(self, summary: Summary) -> Sums:
        sums = {name: column.cpu() for name, column in summary.classes.items()}
        return columns(
            sums,
            family=self.family,
            classes=self.classes,
            normaliser=self.reduction(summary).normaliser,
            gradient_scale=self.gradient_scale(summary),
            limit=self.options.per_class_limit,
        )
