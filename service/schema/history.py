"""Answers about what was evaluated, as the OpenAPI document describes them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Numbers = list[float | None]
Status = Literal["ok", "low_n", "empty", "partial", "nonfinite"]


class ProjectRow(BaseModel):
    """A project."""

    project: str
    series: int
    rows: int = Field(description="All rows that were evaluated, in all series.")
    first: str = Field(description="Event time of the first batch.")
    last: str = Field(description="Event time of the last batch.")


class ProjectList(BaseModel):
    """All projects."""

    projects: list[ProjectRow]


class SchemaOfSeries(BaseModel):
    """What the labels of a series mean."""

    name: str
    version: str = Field(
        description="Of the class names: the parameter `label_schema` takes `name@version`."
    )
    classes: int = Field(description="How many.")
    digest: str = Field(description="Of the class names.")
    changed: bool = Field(description="Whether the name stood for other classes at earlier times.")


class SeriesRow(BaseModel):
    """What is comparable with itself over time."""

    series: str = Field(
        description="What it is called: the same whenever and in whatever order its batches came."
    )
    model: str
    model_version: str
    variant: str
    settings: dict[str, Any]
    settings_hash: str = Field(description="What the parameter `settings` takes.")
    label_schema: SchemaOfSeries
    tags: dict[str, str]
    batches: int
    rows: int
    labelled: int
    first: str
    last: str


class Answered(BaseModel):
    """What every answer about a project says."""

    project: str
    revision: int = Field(description="Grows with everything that is recorded or corrected.")


class SeriesList(Answered):
    """The series of a selection."""

    series: list[SeriesRow]


class TimeseriesRow(BaseModel):
    """A bucket of a group; the group's keys are members too, named as in `by`."""

    model_config = ConfigDict(extra="allow")

    time: str = Field(description="Where the bucket begins.")
    value: float | None
    low: float | None = Field(description="Lower end of the 95 % interval.")
    high: float | None = Field(description="Upper end.")
    status: Status = Field(
        description="The first that applies. empty: there is nothing to make a value of; low_n: "
        "fewer than min_rows rows; nonfinite: rows that were not finite are left out; partial: the "
        "bucket is not over, is cut by from or to, or holds rows that wait for labels."
    )
    rows: int = Field(description="Of how many rows the value is made.")


class Timeseries(Answered):
    """A metric over time: a row for every bucket of every group, ascending by time, then keys."""

    metric: str
    unit: str
    by: list[str]
    from_: str = Field(alias="from")
    to: str = Field(description="Not in it.")
    step_s: int = Field(description="Length of a bucket.")
    rows: list[TimeseriesRow]


class Option(BaseModel):
    """A value of a parameter, and how to show it."""

    value: str
    text: str


class Options(BaseModel):
    """The values that a parameter can have."""

    dimension: str
    options: list[Option]


class ClassRow(BaseModel):
    """A class. What starts with reference_ or holds _change is there where a reference is."""

    model_config = ConfigDict(extra="forbid")

    class_: str = Field(alias="class", description="Its name.")
    support: int = Field(description="Rows of the class; sigmoid: elements.")
    positives: int = Field(description="Softmax: the support.")
    predicted: int
    loss_mean: float | None
    loss_low: float | None = Field(description="Lower end of the 95 % interval.")
    loss_high: float | None
    loss_share: float | None = Field(description="Of the sum of the loss of all classes.")
    gradient_norm_mean: float | None
    gradient_share: float | None = Field(description="Of the sum of the norms of all classes.")
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    reference_support: int | None = None
    reference_loss_mean: float | None = None
    loss_change: float | None = Field(None, description="Since the reference, nats.")
    loss_change_low: float | None = None
    loss_change_high: float | None = None
    reference_recall: float | None = None
    recall_change: float | None = None
    recall_change_low: float | None = None
    recall_change_high: float | None = None


class ClassMap(BaseModel):
    """Classes over time: a list for each class, with an entry for each bucket."""

    step_s: int
    time: list[str] = Field(description="Where each bucket begins.")
    class_: list[str] = Field(alias="class")
    base: Numbers = Field(
        description="Mean loss of each class in the reference, or else in the whole selection."
    )
    loss_mean: list[Numbers]
    change: list[Numbers] = Field(description="loss_mean less the class's base, nats.")
    support: list[list[int]]


class Timed(Answered):
    """What is said of a time."""

    from_: str = Field(alias="from")
    to: str = Field(description="Not in it.")


class ClassTable(Timed):
    """Classes, that of the largest sum of the loss first."""

    classes: int = Field(description="How many there are, listed or not.")
    rows: list[ClassRow]
    map: ClassMap | None = Field(description="Where `step` asks for it.")


class HardRow(BaseModel):
    """A row of large loss."""

    loss: float = Field(description="Nats.")
    label: int
    label_name: str | None
    prediction: int
    prediction_name: str | None
    probability: float | None
    class_index: int | None = Field(description="Sigmoid family only.")
    row: int = Field(description="Its place in its batch.")
    id: str | int | None
    batch_id: str
    time: str = Field(description="Event time of its batch.")
    series: str
    model: str
    model_version: str


class HardestRows(Timed):
    """The rows of largest loss, the largest first."""

    rows: list[HardRow]


class Value(BaseModel):
    """An estimate and its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None


class BinsOverTime(BaseModel):
    """Equal bins of confidence."""

    lower: list[float]
    upper: list[float]
    count: list[int]
    confidence_mean: Numbers
    accuracy: Numbers
    low: Numbers = Field(description="Lower end of the accuracy's 95 % interval.")
    high: Numbers


class CalibrationOf(BaseModel):
    """How far confidence and accuracy agree."""

    rows: int
    decisions: int = Field(description="Rows; sigmoid: elements.")
    ece: Value
    brier: Value
    entropy_mean: float | None = Field(description="Nats.")
    bins: BinsOverTime


class ReferenceCalibration(CalibrationOf):
    """The same series in the reference's time."""

    from_: str = Field(alias="from")
    to: str


class CalibrationOverTime(Timed, CalibrationOf):
    """The calibration of a selection."""

    reference: ReferenceCalibration | None


class LossBuckets(BaseModel):
    """The buckets that hold rows, ascending: lower < loss <= upper for count rows."""

    lower: list[float]
    upper: list[float]
    count: list[int]


class HistogramOf(BaseModel):
    """Losses of rows, nats, in buckets that grow by 2 %."""

    rows: int
    min: float | None
    max: float | None
    mean: Value
    quantiles: dict[Literal["p50", "p90", "p99"], Value]
    buckets: LossBuckets


class ReferenceHistogram(HistogramOf):
    """The same series in the reference's time."""

    from_: str = Field(alias="from")
    to: str


class HistogramOverTime(Timed, HistogramOf):
    """The histogram of a selection."""

    reference: ReferenceHistogram | None


class AnnotationRow(BaseModel):
    """Something that happened."""

    id: int | None = Field(description="Of a note: what removes it.")
    time: str
    kind: Literal["version", "schema", "correction", "alert", "note"]
    text: str
    series: str | None = Field(description="The series that it is about.")


class AnnotationList(Answered):
    """What happened, the latest first."""

    annotations: list[AnnotationRow]
