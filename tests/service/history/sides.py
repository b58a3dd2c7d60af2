"""Sums of simulated rows with names, for comparisons."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.history.replicates import RowSums, Units, replicate, sketch
from service.history.sums import CLASS, Sums

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Rows: what each adds, its class, its name, and the cluster that it belongs to."""

    loss: Floats
    ids: Integers | None = None
    weight: Floats | None = None
    label: Integers | None = None
    clusters: Integers | None = None

    def __getitem__(self, chosen: NDArray[np.bool_] | Integers) -> "Rows":
        return Rows(
            *(
                None if each is None else each[chosen]
                for each in (self.loss, self.ids, self.weight, self.label, self.clusters)
            )  # type: ignore[arg-type]
        )


def sums_of(rows: Rows, *, classes: int = 4) -> Sums:
    """Return the sums of rows, from their definition."""
    count = len(rows.loss)
    weight = np.ones(count) if rows.weight is None else rows.weight
    label = np.zeros(count, np.int64) if rows.label is None else rows.label
    loss = rows.loss * weight
    sums = Sums(
        batches=1,
        rows=count,
        evaluated=count,
        loss_sum=float(loss.sum()),
        weight_sum=float(weight.sum()),
        loss_square_sum=float((loss**2).sum()),
        loss_weight_sum=float((loss * weight).sum()),
        weight_square_sum=float((weight**2).sum()),
    )
    records = np.zeros(classes, CLASS)
    records["class"] = np.arange(classes)
    for name, added in (
        ("support", np.ones(count)),
        ("weight", weight),
        ("loss_sum", loss),
        ("loss_square_sum", loss**2),
        ("loss_weight_sum", loss * weight),
        ("weight_square_sum", weight**2),
    ):
        records[name] = np.bincount(label, added, minlength=classes)
    sums.classes = records[records["support"] > 0]
    if rows.ids is not None:
        samples = _hashes(rows.ids)
        clusters = samples if rows.clusters is None else _hashes(rows.clusters)
        drawn = replicate([RowSums(loss, weight, label)], Units(clusters, samples), classes=classes)
        sums.replicates = drawn[0]
        sums.replicated = count
        sums.sketch = sketch(samples)
    return sums


def _hashes(ids: Integers) -> NDArray[np.uint64]:
    # splitmix64's finaliser: as evenly spread as the hashes of names are.
    mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(27))
