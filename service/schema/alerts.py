"""Answers about alerts and comparisons, as the OpenAPI document describes them."""

from typing import Literal

from pydantic import BaseModel, Field

from service.history.rules import Rule
from service.schema.history import Answered, Numbers

ComparisonVerdict = Literal["worse", "better", "no_difference", "insufficient"]


class AlertDetail(BaseModel):
    """What a rule last saw: the rows that speak most against its target."""

    unit: str | None
    estimate: float | None = Field(description="The mean of these rows, or their quantile.")
    bound: float | None = Field(
        description="What their mean lies beyond, at all looks together; it fires where that lies "
        "beyond the target. Null for cusum and for quantiles."
    )
    target: float | None = Field(
        description="The threshold, or what the reference's own does not lie beyond."
    )
    rows: int | None
    from_: str | None = Field(alias="from", description="Where these rows begin.")
    newest: str | None = Field(description="Time of the newest row that was seen.")
    reason: str | None = Field(description="Why nothing can be told.")


class AlertAnswer(BaseModel):
    """An alert, and how it stands."""

    rule: Rule
    created: str
    state: Literal["ok", "firing", "no_data"]
    since: str = Field(description="When it came into that state, by the time of the rows.")
    detail: AlertDetail


class AlertList(Answered):
    """A project's alerts."""

    alerts: list[AlertAnswer]


class WebhookMessage(BaseModel):
    """What is posted to a rule's webhook when its state changes; at least once."""

    id: str = Field(description="As the header `Idempotency-Key`: the same if sent again.")
    project: str
    alert: str
    state: Literal["ok", "firing", "no_data"]
    previous: Literal["ok", "firing", "no_data"]
    since: str
    noticed: str = Field(description="When the change was found, by the clock.")
    text: str
    detail: AlertDetail
    rule: Rule


class ComparedSide(BaseModel):
    """One side of a comparison."""

    name: str
    rows: int
    mean: float | None = Field(description="Mean loss, nats.")
    low: float | None
    high: float | None
    from_: str | None = Field(alias="from")
    to: str | None
    models: list[str]
    model_versions: list[str]


class OverlapAnswer(BaseModel):
    """How many samples both sides hold."""

    estimate: float | None = Field(
        description="Share of the smaller side's samples that the other holds too."
    )
    jaccard: float | None = Field(description="Share of all samples that both hold.")
    basis: Literal["exact", "sketch", "none"] = Field(
        description="exact: all names were counted; sketch: a random part of them; none: a side "
        "has no names."
    )
    samples: int = Field(description="Names that were counted.")


class ComparedClasses(BaseModel):
    """Columns with one entry per class that rows belong to."""

    class_: list[int] = Field(alias="class")
    name: list[str]
    support_baseline: list[int]
    support_candidate: list[int]
    baseline_mean: Numbers
    candidate_mean: Numbers
    difference: Numbers
    low: Numbers = Field(description="Of this class by itself.")
    high: Numbers
    p: Numbers = Field(description="Of this class by itself.")
    p_adjusted: Numbers = Field(description="For all tested classes: Benjamini and Hochberg.")
    method: list[Literal["paired_poisson_bootstrap", "welch"]]
    verdict: list[ComparisonVerdict] = Field(description="By p_adjusted.")


class Comparison(Answered):
    """How a candidate's loss compares with a baseline's."""

    comparable: bool
    reason: str | None = Field(description="Why the two sides have no unit in common.")
    unit: str
    baseline: ComparedSide
    candidate: ComparedSide
    difference: float | None = Field(description="Mean of the candidate - mean of the baseline.")
    low: float | None
    high: float | None
    p: float | None = Field(description="Two-sided.")
    method: Literal["paired_poisson_bootstrap", "welch"] | None = Field(
        description="paired_poisson_bootstrap: all rows have names, so that what both sides share "
        "cancels. welch: they have not."
    )
    overlap: OverlapAnswer
    verdict: ComparisonVerdict | Literal["not_comparable"]
    sentence: str = Field(description="The verdict in words, with the method and the rows.")
    alpha: float
    per_class: ComparedClasses
