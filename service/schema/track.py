"""The ``track`` member of a request: what a batch is of, so that its sums are kept."""

import re
from datetime import datetime
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from service.history import times
from service.schema.names import Ids, Name

RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?")
MOST_TAGS: Final = 16


def _time(value: object) -> int:
    """Return an RFC 3339 time with an offset as microseconds since 1970."""
    text = value.upper() if isinstance(value, str) else ""
    if not RFC_3339.fullmatch(text):
        raise PydanticCustomError("time", "write a time as 2026-01-31T12:00:00Z")
    try:
        return times.to_us(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        raise PydanticCustomError("time", "{reason}", {"reason": str(error)}) from None


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise PydanticCustomError("distinct", "two classes have the same name")
    return names


Time = Annotated[
    int,
    BeforeValidator(_time),
    WithJsonSchema(
        {"type": "string", "format": "date-time", "description": "RFC 3339, with an offset."}
    ),
]
Project = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}$")]
BatchId = Annotated[str, Field(min_length=1, max_length=256)]
TagKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
TagValue = Annotated[str, Field(max_length=256)]


class LabelSchema(BaseModel):
    """What the classes are called. With other classes, a name gets a new version."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: ModelName
    classes: Annotated[
        list[Name], Field(min_length=1, fail_fast=True), AfterValidator(_distinct)
    ] = Field(description="One name per class, in the order of the logits.")


class Track(BaseModel):
    """What a batch is of. Its sums are kept before the answer is sent."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    project: Project
    model: ModelName
    model_version: ModelName
    batch_id: BatchId = Field(
        description="Names the batch within project, model, version, variant and settings. Sent "
        "again with the same body, nothing is added; with another body, it is refused."
    )
    event_time: Time = Field(description="When the rows were seen.")
    tags: Annotated[dict[TagKey, TagValue], Field(max_length=MOST_TAGS)] = Field(
        {}, description="What else series are told apart by; few values each."
    )
    label_schema: LabelSchema | ModelName = Field(
        description="The classes' names, or the name of a schema declared before."
    )
    sample_ids: Ids | None = Field(
        None,
        description="One per row; null: the document's, or the column sample_id. The same id is "
        "the same sample in every batch: models are compared on what they share.",
    )
    cluster_ids: Ids | None = Field(
        None,
        description="One per row: rows that belong together, as the frames of a video do. "
        "Intervals then tell how clusters vary.",
    )
    pending: bool = Field(
        False,
        description="Keep the logits: labels come later, by `POST /labels`. They may be left out.",
    )
    expires_at: Time | None = Field(
        None, description="How long logits wait for their labels; null: the service's default."
    )


class LabelsDocument(BaseModel):
    """Which batch late labels are of; beside the labels themselves."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    project: Project
    model: ModelName
    model_version: ModelName
    batch_id: BatchId
    variant: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="Null: every variant that the batch was evaluated with."
    )
    sample_ids: Ids | None = Field(
        None,
        description="The rows that the labels are of; null: all of them, in their order. Rows "
        "that still have no label stay left out.",
    )
