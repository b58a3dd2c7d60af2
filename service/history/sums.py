"""The sums of one evaluation, and of any number of them: what is stored, merged and divided later.

Everything adds up, in an order that whoever merges fixes: by event time, then by batch id. Arrays
are stored as numpy records, little-endian, and read back in place; nothing is unpickled.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Records = NDArray[Any]

# One record for each class that the rows hold or that was predicted, ascending. Sums as
# :mod:`xentcore` defines them; `loss` is what rows contribute (all weights included), `weight` what
# they weigh in the denominator. Softmax: a row belongs to its label. Sigmoid: every row has an
# element in every class, and the sums are over those.
CLASS: Final = np.dtype(
    [
        ("class", "<i8"),
        ("support", "<i8"),
        ("positives", "<i8"),  # softmax: the support
        ("predicted", "<i8"),
        ("true_positives", "<i8"),
        ("weight", "<f8"),
        ("loss_sum", "<f8"),
        ("loss_square_sum", "<f8"),
        ("loss_weight_sum", "<f8"),
        ("weight_square_sum", "<f8"),
        ("gradient_norm_sum", "<f8"),
        ("gradient_norm_square_sum", "<f8"),
    ]
)
# One record for each bucket of :mod:`xentcore`'s histogram that holds rows, ascending.
BUCKET: Final = np.dtype([("bucket", "<i8"), ("count", "<i8")])
# One record for each of the 15 bins of confidence.
BIN: Final = np.dtype([("count", "<i8"), ("hits", "<f8"), ("confidence_sum", "<f8")])
# Poisson bootstrap: the sums of loss and weight in each replicate. Class -1 is all rows.
REPLICATES: Final = 128
REPLICATE: Final = np.dtype(
    [
        ("class", "<i8"),
        ("loss_sums", "<f8", (REPLICATES,)),
        ("weight_sums", "<f8", (REPLICATES,)),
    ]
)
# Bottom-k sketch of the hashes of sample ids, ascending.
SKETCH: Final = np.dtype("<u8")
SKETCH_SIZE: Final = 512
HARDEST: Final = 10

ALL_CLASSES: Final = -1
BINS: Final = 15


@dataclass(slots=True)
class Sums:
    """Sums and counts over rows.

    Attributes:
        batches: how many evaluations.
        rows: all that came, labelled or not.
        evaluated: rows that are in the sums.
        ignored: rows without a label.
        nonfinite: rows that held NaN or +inf; in no sum.
        infinite: rows whose loss is infinite; in no sum.
        loss_sum: nats, all weights included.
        weight_sum: the denominator of the mean.
        loss_square_sum, loss_weight_sum, weight_square_sum: over rows of x^2, x*w and w^2, x what a
            row adds to ``loss_sum``, w what it adds to ``weight_sum``.
        prior_loss_sum, prior_sum: the loss, and that of the predictor which knows the batch's class
            frequencies only; over batches where there is one, nats.
        decisions: what calibration counts: rows (softmax) or elements (sigmoid).
        brier_sum, brier_square_sum, entropy_sum: over decisions.
        replicated: evaluated rows that are in ``replicates``.
        loss_min, loss_max: of finite losses of rows; ``None`` without any.
        classes, histogram, calibration, replicates: records, see above; empty for none.
        sketch: the smallest hashes of sample ids.
        hardest: the rows of largest loss, descending: loss, label, prediction, probability, row,
            id, class_index, batch_id, time (microseconds).
    """

    batches: int = 0
    rows: int = 0
    evaluated: int = 0
    ignored: int = 0
    nonfinite: int = 0
    infinite: int = 0
    decisions: int = 0
    replicated: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    loss_square_sum: float = 0.0
    loss_weight_sum: float = 0.0
    weight_square_sum: float = 0.0
    prior_loss_sum: float = 0.0
    prior_sum: float = 0.0
    brier_sum: float = 0.0
    brier_square_sum: float = 0.0
    entropy_sum: float = 0.0
    loss_min: float | None = None
    loss_max: float | None = None
    classes: Records = field(default_factory=lambda: np.zeros(0, CLASS))
    histogram: Records = field(default_factory=lambda: np.zeros(0, BUCKET))
    calibration: Records = field(default_factory=lambda: np.zeros(BINS, BIN))
    replicates: Records = field(default_factory=lambda: np.zeros(0, REPLICATE))
    sketch: Records = field(default_factory=lambda: np.zeros(0, SKETCH))
    hardest: list[dict[str, Any]] = field(default_factory=list)

    def columns(self) -> dict[str, object]:
        """Return what is stored, by column name."""
        stored: dict[str, object] = dict(zip(SCALARS, _scalars_of(self), strict=True))
        stored |= {name: getattr(self, name).tobytes() for name in ARRAYS}
        stored["hardest"] = _json(self.hardest).encode()
        return stored

    def is_finite(self) -> bool:
        """Whether no number overflowed: what is not finite is never stored."""
        return all(map(math.isfinite, _added_of(self))) and all(
            np.isfinite(_floats(getattr(self, name), integers)).all()
            for name, integers in _INTEGERS.items()
        )


ARRAYS: Final[Mapping[str, np.dtype[Any]]] = {
    "classes": CLASS,
    "histogram": BUCKET,
    "calibration": BIN,
    "replicates": REPLICATE,
    "sketch": SKETCH,
}
SCALARS: Final = tuple(
    each.name for each in fields(Sums) if each.name not in ARRAYS and each.name != "hardest"
)
# The scalars that add up; the extremes do not.
ADDED: Final = tuple(name for name in SCALARS if name not in ("loss_min", "loss_max"))
COUNTS: Final = tuple(each.name for each in fields(Sums) if each.type in (int, "int"))
# Of the records that hold floats, how many integers come before them.
_INTEGERS: Final = {
    name: sum(ARRAYS[name][each].kind == "i" for each in ARRAYS[name].names or ())
    for name in ("classes", "calibration", "replicates")
}
_scalars_of: Final = attrgetter(*SCALARS)
_added_of: Final = attrgetter(*ADDED)
_json: Final = json.JSONEncoder(separators=(",", ":")).encode


def _floats(records: Records, integers: int) -> NDArray[np.float64]:
    """Return the floats of records that begin with so many integers, (records, floats)."""
    words = records.dtype.itemsize // 8
    return np.ascontiguousarray(records).view("<f8").reshape(len(records), words)[:, integers:]


def from_columns(stored: Mapping[str, Any]) -> Sums:
    """Return the sums of a stored row. Arrays that were not read are empty."""
    sums = Sums(**{name: stored[name] for name in SCALARS})
    for name, dtype in ARRAYS.items():
        if stored.get(name) is not None:
            setattr(sums, name, np.frombuffer(stored[name], dtype))
    if stored.get("hardest") is not None:
        sums.hardest = json.loads(stored["hardest"])
    return sums


def hardness(row: Mapping[str, Any]) -> tuple[float, int, str, int]:
    """Return what hardest rows are sorted by: the largest loss first, ties in a fixed order."""
    return (-row["loss"], row["time"], row["batch_id"], row["row"])
