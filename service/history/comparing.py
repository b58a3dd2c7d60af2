"""Asking how a candidate compares with a baseline: two selections, one answer in numbers and words.

The statistics are in :mod:`service.history.comparison`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Self

import numpy as np
from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from service.history import stack, times
from service.history.comparison import Comparison, Difference, Side, Verdict, compare
from service.history.grouping import selected
from service.history.metrics import number
from service.history.questions import TAG, Selection, Time, in_order
from service.history.rollups import View
from service.history.selection import Series, class_names, cover, gather, span
from service.history.sums import SCALARS, Sums, from_columns

_COLUMNS: Final = (*SCALARS, "classes", "replicates", "sketch")
_LISTED: Final = 5
_UNIT: Final = "nats"


def _selector(text: str) -> str:
    dimension, separator, value = text.partition(":")
    known = dimension in ("model", "model_version") or dimension.removeprefix(TAG) not in (
        "",
        dimension,
    )
    if not (known and separator and value):
        raise ValueError("write model_version:NAME, model:NAME or tag.KEY:VALUE")
    return text


Selector = Annotated[
    str, AfterValidator(_selector), WithJsonSchema({"type": "string", "example": "model_version:2"})
]


class Question(Selection):
    """What is compared with what: selectors, times, or both."""

    baseline: Selector | None = Field(
        None, description="model_version:NAME, model:NAME or tag.KEY:VALUE."
    )
    candidate: Selector | None = Field(None, description="As `baseline`.")
    baseline_from: Time | None = Field(None, description="Not before; default: `from`.")
    baseline_to: Time | None = Field(None, description="Before; default: `to`.")
    candidate_from: Time | None = Field(None, description="Not before; default: `from`.")
    candidate_to: Time | None = Field(None, description="Before; default: `to`.")
    alpha: float = Field(
        0.05, gt=0, lt=1, description="Level of the tests; intervals hold 1 - alpha."
    )

    @model_validator(mode="after")
    def _two_sides(self) -> Self:
        in_order(self.baseline_from, self.baseline_to, "baseline_from")
        in_order(self.candidate_from, self.candidate_to, "candidate_from")
        if self.side("baseline") == self.side("candidate"):
            raise ValueError(
                "both sides are the same: say how they differ, by baseline and candidate, or by "
                "baseline_from, baseline_to, candidate_from and candidate_to"
            )
        return self

    def side(self, name: str) -> Selection:
        """Return the selection of ``baseline`` or ``candidate``."""
        start, end = getattr(self, f"{name}_from"), getattr(self, f"{name}_to")
        changed: dict[str, Any] = {
            "from_": self.from_ if start is None else start,
            "to": self.to if end is None else end,
        }
        selector = getattr(self, name)
        if selector is not None:
            dimension, _, value = selector.partition(":")
            if dimension.startswith(TAG):
                changed["tags"] = {**self.tags, dimension.removeprefix(TAG): (value,)}
            else:
                changed[dimension] = (value,)
        fields = {field: getattr(self, field) for field in Selection.model_fields}
        return Selection.model_construct(**{**fields, **changed})


def answer(view: View, question: Question) -> dict[str, Any]:
    """Return how the candidate compares with the baseline."""
    sides = [question.side(name) for name in ("baseline", "candidate")]
    series = [selected(view, side) for side in sides]
    reason = _incomparable(series[0], series[1])
    sums = [
        Sums() if reason else _sums(view, side, own)
        for side, own in zip(sides, series, strict=True)
    ]
    reason = reason or _empty(sums[0], sums[1])
    found = compare(*sums, alpha=question.alpha)
    verdict: Verdict | str = "not_comparable"
    if reason is None:
        verdict = found.whole.verdict(found.whole.p, question.alpha)
    names = _names(view, series[0]) if found.classes else []
    whole = found.whole
    told = [_label(question, name) for name in ("baseline", "candidate")]
    return {
        "project": view.project,
        "revision": view.revision,
        "comparable": reason is None,
        "reason": reason,
        "unit": _UNIT,
        "baseline": _side(told[0], whole.baseline, sides[0], series[0]),
        "candidate": _side(told[1], whole.candidate, sides[1], series[1]),
        "difference": number(whole.value),
        "low": number(whole.low),
        "high": number(whole.high),
        "p": number(whole.p),
        "method": None if reason else whole.method,
        "overlap": {
            "estimate": found.overlap.estimate,
            "jaccard": found.overlap.jaccard,
            "basis": found.overlap.basis,
            "samples": found.overlap.samples,
        },
        "verdict": verdict,
        "sentence": reason or sentence(found, told[0], told[1]),
        "alpha": question.alpha,
        "per_class": _per_class(found, names),
    }


def sentence(found: Comparison, baseline: str, candidate: str) -> str:
    """Return the verdict in words, with the method and the numbers of rows."""
    whole = found.whole
    verdict = whole.verdict(whole.p, found.alpha)
    rows = f"{whole.candidate.rows} against {whole.baseline.rows} rows"
    if verdict == "insufficient":
        return f"{candidate} against {baseline}: too few independent rows to say ({rows})."
    word = {
        "worse": f"{candidate} is worse than {baseline}",
        "better": f"{candidate} is better than {baseline}",
        "no_difference": f"No difference between {candidate} and {baseline} was found",
    }[verdict]
    share = found.overlap.estimate
    shared = "" if share is None else f", {100 * share:.0f} % of the samples shared"
    method = {
        "paired_poisson_bootstrap": "paired Poisson bootstrap",
        "welch": "Welch's t test",
    }[whole.method]
    return (
        f"{word}: mean loss {whole.candidate.mean:.4g} against "
        f"{whole.baseline.mean:.4g} {_UNIT}, difference {whole.value:+.3g} "
        f"({100 * (1 - found.alpha):.4g} % interval {whole.low:+.3g} to {whole.high:+.3g}, "
        f"p {_rounded(whole.p)}; {method} over {rows}{shared})."
    )


def _rounded(p: float) -> str:
    return f"= {p:.2g}" if p >= 1e-4 else "< 0.0001"  # noqa: PLR2004


def _sums(view: View, selection: Selection, series: Sequence[Series]) -> Sums:
    found = gather(view, series, cover(selection, series), _COLUMNS)
    whole = stack.fold(found.sums, np.zeros(found.sums.count, np.int64), 1)
    return from_columns(next(whole.columns()))


def _incomparable(baseline: Sequence[Series], candidate: Sequence[Series]) -> str | None:
    """Return why the losses of two sides are no numbers of one kind, if they are not."""
    for name, side in (("baseline", baseline), ("candidate", candidate)):
        if not side:
            return f"Not comparable: nothing was recorded that is the {name}."
    both = (*baseline, *candidate)
    for dimension, kinds in (
        ("variant", {each.variant for each in both}),
        ("settings", {each.settings_hash for each in both}),
        ("label_schema", {str(each.schema) for each in both}),
    ):
        if len(kinds) > 1:
            listed = ", ".join(sorted(kinds)[:_LISTED])
            return (
                f"Not comparable: losses of different {dimension} have different units "
                f"({listed}); choose one with {dimension}=..."
            )
    return None


def _empty(baseline: Sums, candidate: Sums) -> str | None:
    for name, side in (("baseline", baseline), ("candidate", candidate)):
        if side.evaluated == 0 or side.weight_sum <= 0:
            return f"Not comparable: the {name} holds no evaluated rows of weight above 0."
    return None


def _names(view: View, series: Sequence[Series]) -> list[str]:
    return class_names(view.connection, [series[0].schema.id])[series[0].schema.id]


def _label(question: Question, name: str) -> str:
    """Return what a side is called."""
    selector = getattr(question, name)
    called = name if selector is None else selector.partition(":")[2]
    start, end = getattr(question, f"{name}_from"), getattr(question, f"{name}_to")
    since = "" if start is None else f" from {times.text(start)}"
    until = "" if end is None else f" to {times.text(end)}"
    return f"{called}{since}{until}"


def _side(name: str, side: Side, selection: Selection, series: Sequence[Series]) -> dict[str, Any]:
    start, end = span(selection, series) if series else (None, None)
    return {
        "name": name,
        "rows": side.rows,
        "mean": number(side.mean),
        "low": number(side.low),
        "high": number(side.high),
        "from": None if start is None else times.text(start),
        "to": None if end is None else times.text(end),
        "models": sorted({each.model for each in series}),
        "model_versions": sorted({each.model_version for each in series}),
    }


def _per_class(found: Comparison, names: Sequence[str]) -> dict[str, list[Any]]:
    each: list[Difference] = [one.difference for one in found.classes]
    return {
        "class": [one.index for one in found.classes],
        "name": [names[one.index] for one in found.classes],
        "support_baseline": [one.baseline.rows for one in each],
        "support_candidate": [one.candidate.rows for one in each],
        "baseline_mean": [number(one.baseline.mean) for one in each],
        "candidate_mean": [number(one.candidate.mean) for one in each],
        "difference": [number(one.value) for one in each],
        "low": [number(one.low) for one in each],
        "high": [number(one.high) for one in each],
        "p": [number(one.p) for one in each],
        "p_adjusted": [number(one.p_adjusted) for one in found.classes],
        "method": [one.method for one in each],
        "verdict": [one.difference.verdict(one.p_adjusted, found.alpha) for one in found.classes],
    }
