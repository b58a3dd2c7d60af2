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
    version: int = Field(description="1, and one more each time the classes were others.")
    classes: int = Field(description="How many.")
    digest: str = Field(description="Of the class names.")
    changed: bool = Field(description="Whether the name stood for other classes before.")


class SeriesRow(BaseModel):
    """What is comparable with itself over time."""

    series: int
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
