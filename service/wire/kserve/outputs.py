"""Outputs by name: every tensor and number of an answer document."""

from collections.abc import Mapping, Sequence
from typing import Final

from service.wire.kserve.model import Output
from xentcore import Family

Outputs = list[Output]

DEFAULT: Final = "loss"
GRADIENT: Final = "gradient"

_PER_CLASS: Final[Mapping[str, str]] = {
    "class": "INT64",
    "support": "INT64",
    "weight": "FP64",
    "loss_sum": "FP64",
    "loss_mean": "FP64",
    "loss_share": "FP64",
    "recall": "FP64",
    "predicted": "INT64",
    "mean_probability": "FP64",
    "gradient_norm_mean": "FP64",
    "gradient_sum": "FP64",
}
_SIDES: Final[Mapping[str, str]] = {
    "positives": "INT64",
    "negatives": "INT64",
    "positive_loss_sum": "FP64",
    "negative_loss_sum": "FP64",
    "true_positives": "INT64",
    "false_positives": "INT64",
    "true_negatives": "INT64",
    "false_negatives": "INT64",
}
_ROW_STATISTICS: Final = dict.fromkeys(
    ("max_logit", "log_partition", "target_probability", "margin", "entropy", "el2n", "rank"),
    "FP64",
)
_REDUCTION: Final = dict.fromkeys(("sum", "denominator"), "FP64")
_ROWS: Final = dict.fromkeys(("total", "evaluated", "ignored", "nonfinite", "infinite"), "INT64")
_DISTRIBUTION: Final = dict.fromkeys(("min", "max", "p50", "p90", "p99"), "FP64")
_BUCKETS: Final = {"lower": "FP64", "upper": "FP64", "count": "INT64"}
_CALIBRATION: Final = dict.fromkeys(("ece", "brier", "entropy_mean"), "FP64")
_BINS: Final = {**_BUCKETS, "confidence_mean": "FP64", "accuracy": "FP64"}
_HARDEST: Final = {
    "row": "INT64",
    "label": "INT64",
    "prediction": "INT64",
    "probability": "FP64",
    "loss": "FP64",
}

_NUMBER: Final = (1,)
_COLUMN: Final = (-1,)
_MATRIX: Final = (-1, -1)


def _under(
    path: tuple[str, ...], columns: Mapping[str, str], shape: tuple[int, ...], needs: str | None
) -> list[Output]:
    """Return the entries of a part of the document, named after the part and themselves."""
    return [
        Output(f"{path[0]}_{name}", datatype, shape, (*path, name), needs)
        for name, datatype in columns.items()
    ]


def _asked_for(
    path: tuple[str, ...], columns: Mapping[str, str], shape: tuple[int, ...]
) -> Outputs:
    return _under(path, columns, shape, path[0])


_BOTH: Final[Outputs] = [
    Output(DEFAULT, "FP64", _NUMBER, ("loss",), None),
    Output("per_sample", "FP64", _COLUMN, ("per_sample",), "per_sample"),
    Output("row_status", "INT8", _COLUMN, ("row_status",), "per_sample"),
    Output(GRADIENT, "FP32", _MATRIX, ("gradient",), "gradient"),
    *_under(("reduction",), _REDUCTION, _NUMBER, None),
    *_under(("rows",), _ROWS, _NUMBER, None),
    *_asked_for(("per_class",), _PER_CLASS, _COLUMN),
    *_asked_for(("distribution",), _DISTRIBUTION, _NUMBER),
    *_asked_for(("distribution", "buckets"), _BUCKETS, _COLUMN),
    *_asked_for(("calibration",), _CALIBRATION, _NUMBER),
    *_asked_for(("calibration", "bins"), _BINS, _COLUMN),
    *_asked_for(("hardest",), _HARDEST, _COLUMN),
]
_OF: Final[Mapping[Family, Outputs]] = {
    "softmax": _asked_for(("row_statistics",), _ROW_STATISTICS, _COLUMN),
    "sigmoid": _asked_for(("per_class",), _SIDES, _COLUMN),
}


def outputs_of(families: Sequence[Family]) -> dict[str, Output]:
    """Return what a variant that these families serve may be asked for."""
    return {each.name: each for part in (_BOTH, *(_OF[name] for name in families)) for each in part}
