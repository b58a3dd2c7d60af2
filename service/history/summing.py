"""From what the core recorded of a batch to the sums that are stored of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from service.history.replicates import RowSums, Units, replicate, sketch
from service.history.sums import BIN, BINS, BUCKET, CLASS, HARDEST, Records, Sums
from xentcore import HardRow, Recorded

Ids = Sequence[str | int] | Mapping[int, str | int] | None


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from.

    Attributes:
        batch_id: of the batch.
        time: of the batch, microseconds since 1970.
        ids: what rows are called, by their numbers; of those that may be listed at least.
        units: what rows are resampled by; ``None`` where they have no names.
    """

    batch_id: str
    time: int
    ids: Ids
    units: Units | None


def sums_of(
    recorded: Sequence[Recorded], source: Source, *, proceed: Callable[[], None] = lambda: None
) -> list[Sums]:
    """Return the sums of each variant over one batch.

    Args:
        recorded: of each variant; of rows, where the source has units.
        source: of the batch.
        proceed: called now and then; may raise to give up.
    """
    sums = [_without_rows(each, source) for each in recorded]
    if source.units is None:
        return sums
    rows = [_rows(each) for each in recorded]
    replicates = replicate(rows, source.units, classes=recorded[0].classes, proceed=proceed)
    for each, own, records in zip(sums, rows, replicates, strict=True):
        evaluated = np.isfinite(own.losses)
        each.replicated = int(evaluated.sum())
        if each.replicated:
            each.replicates = records
            each.sketch = sketch(source.units.seen[evaluated])
    return sums


def _without_rows(recorded: Recorded, source: Source) -> Sums:
    rows, reduction = recorded.rows, recorded.reduction
    has_prior = recorded.prior_sum is not None
    return Sums(
        batches=1,
        rows=rows.total,
        evaluated=rows.evaluated,
        ignored=rows.ignored,
        nonfinite=rows.nonfinite,
        infinite=rows.infinite,
        decisions=recorded.decisions,
        loss_sum=reduction.sum,
        weight_sum=reduction.denominator,
        loss_square_sum=recorded.loss_square_sum,
        loss_weight_sum=recorded.loss_weight_sum,
        weight_square_sum=recorded.weight_square_sum,
        prior_loss_sum=reduction.sum if has_prior else 0.0,
        prior_sum=recorded.prior_sum or 0.0,
        brier_sum=recorded.brier_sum,
        brier_square_sum=recorded.brier_square_sum,
        entropy_sum=recorded.entropy_sum,
        loss_min=recorded.loss_min,
        loss_max=recorded.loss_max,
        classes=_classes(recorded.class_sums),
        histogram=_histogram(recorded.buckets),
        calibration=_calibration(recorded.bins),
        hardest=[_hard_row(row, source) for row in recorded.hardest[:HARDEST]],
    )


def _classes(columns: Mapping[str, Tensor]) -> Records:
    """Return a record for each class that rows hold or that was predicted."""
    arrays = {name: column.numpy() for name, column in columns.items()}
    found = np.flatnonzero((arrays["support"] != 0) | (arrays["predicted"] != 0))
    chosen = slice(None) if len(found) == len(arrays["support"]) else found
    records = np.empty(len(found), CLASS)
    records["class"] = found
    for name, array in arrays.items():
        records[name] = array[chosen]
    return records


def _histogram(counts: Tensor) -> Records:
    (found,) = counts.numpy().nonzero()
    records = np.zeros(len(found), BUCKET)
    records["bucket"], records["count"] = found, counts.numpy()[found]
    return records


def _calibration(bins: Mapping[str, Tensor]) -> Records:
    records = np.zeros(BINS, BIN)
    for name, column in bins.items():
        records[name] = column.numpy()
    return records


def _hard_row(row: HardRow, source: Source) -> dict[str, Any]:
    return {
        "loss": row.loss,
        "label": row.label,
        "prediction": row.prediction,
        "probability": row.probability,
        "row": row.row,
        "id": None if source.ids is None else source.ids[row.row],
        "class_index": row.class_index,
        "batch_id": source.batch_id,
        "time": source.time,
    }


def _rows(recorded: Recorded) -> RowSums:
    losses, weights, classes = recorded.row_losses, recorded.row_weights, recorded.row_classes
    if losses is None or weights is None or classes is None:
        raise AssertionError("rows with names are recorded as rows")
    return RowSums(losses.numpy(), weights.numpy(), classes.numpy())
