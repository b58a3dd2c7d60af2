"""A result as the answer document: plain values, and tensors as leaves for the wire to write."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from xentcore import (
    Calibration,
    ComparedPair,
    ComparedVariant,
    Comparison,
    Distribution,
    HardRow,
    Result,
)

Names = Sequence[str] | None
Ids = Sequence[str | int] | Mapping[int, str | int] | None


def answer(
    result: Result, *, class_names: Names = None, sample_ids: Ids = None
) -> dict[str, object]:
    """Return the answer document of one result. What was not asked for is left out."""
    document: dict[str, object] = {
        "variant": result.variant,
        "family": result.family,
        "loss": result.loss,
        "undefined": result.undefined,
        "reduction": _entries(result.reduction),
        "rows": _entries(result.rows),
        "classes": result.classes,
        "label_kind": result.label_kind,
        "settings": _entries(result.settings),
    }
    optional = {
        "per_sample": result.per_sample,
        "row_status": result.row_status,
        "gradient": result.gradient,
        "per_class": result.per_class and _per_class(result.per_class, class_names),
        "distribution": result.distribution and _distribution(result.distribution),
        "calibration": result.calibration and _calibration(result.calibration),
        "hardest": None if result.hardest is None else _hardest(result.hardest, sample_ids),
        "row_statistics": result.row_statistics and dict(result.row_statistics),
    }
    document.update({key: value for key, value in optional.items() if value is not None})
    document["diagnostics"] = [_entries(each) for each in result.diagnostics]
    return document


def _entries(record: Any) -> dict[str, object]:  # noqa: ANN401  (a dataclass of plain values)
    # Not dataclasses.asdict, which copies what is in them: a weight for each of a million classes.
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def comparison(
    answers: Sequence[Mapping[str, object]],
    results: Sequence[Result],
    compared: Comparison,
    *,
    class_names: Names = None,
) -> dict[str, object]:
    """Return the answer document of a comparison: every result's, and what can be compared."""
    return {
        "results": list(answers),
        "variants": [_variant(each, class_names) for each in compared.variants],
        "pairs": [_pair(each, results[each.a], results[each.b]) for each in compared.pairs],
    }


def _variant(compared: ComparedVariant, class_names: Names) -> dict[str, object]:
    return {
        "name": compared.name,
        "normalised_entropy": compared.normalised_entropy,
        "prior_sum": compared.prior_sum,
        "undefined": compared.undefined,
        "class_share": _per_class(compared.class_share, class_names),
    }


def _pair(pair: ComparedPair, a: Result, b: Result) -> dict[str, object]:
    """Losses compare only where they are the same function of the same reduction."""
    same = a.variant == b.variant and a.settings == b.settings
    return {
        "a": a.name,
        "b": b.name,
        "comparable": same,
        "reason": None if same else "units differ",
        "rows": pair.rows,
        "spearman": pair.spearman,
        "spearman_undefined": pair.spearman_undefined,
        "gradient_cosine": pair.gradient_cosine,
        "gradient_cosine_undefined": pair.gradient_cosine_undefined,
    }


def _per_class(columns: Mapping[str, Tensor], class_names: Names) -> dict[str, object]:
    table: dict[str, object] = dict(columns)
    if class_names is None:
        return table
    # -1 is the row that all unlisted classes are folded into.
    names = [class_names[index] if index >= 0 else "others" for index in columns["class"].tolist()]
    return {"class": table.pop("class"), "name": names, **table}


def _distribution(distribution: Distribution) -> dict[str, object]:
    return {
        "min": distribution.minimum,
        "max": distribution.maximum,
        "p50": distribution.p50,
        "p90": distribution.p90,
        "p99": distribution.p99,
        "buckets": _lists(distribution, ("lower", "upper", "count")),
    }


def _calibration(calibration: Calibration) -> dict[str, object]:
    return {
        "ece": calibration.ece,
        "brier": calibration.brier,
        "entropy_mean": calibration.entropy_mean,
        "bins": _lists(calibration, ("lower", "upper", "count", "confidence_mean", "accuracy")),
    }


def _lists(table: Distribution | Calibration, columns: Sequence[str]) -> dict[str, object]:
    # Lists, not tensors: a handful of numbers that stay in the JSON of every format.
    return {name: getattr(table, name).tolist() for name in columns}


def _hardest(rows: Sequence[HardRow], sample_ids: Ids) -> dict[str, object]:
    columns: dict[str, object] = {
        name: [getattr(row, name) for row in rows]
        for name in ("row", "label", "prediction", "probability", "loss", "class_index")
    }
    if all(row.class_index is None for row in rows):
        del columns["class_index"]
    if sample_ids is not None:
        columns["id"] = [sample_ids[row.row] for row in rows]
    return columns
