"""What an alert is to watch: the document of a rule."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from service.history import times

NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$"
MOST_NAMES: Final = 100

_Text = Annotated[str, Field(min_length=1, max_length=256)]


def _time(value: object) -> int:
    """Return the microseconds of a time as JSON holds it."""
    if not isinstance(value, str) or value.lstrip("-").isdecimal():
        raise _wrong("write a time as 2026-01-31T12:00:00Z")
    try:
        return times.parse(value)
    except (ValueError, OverflowError) as error:
        raise _wrong(str(error)) from None


def _step(value: object) -> int:
    try:
        return times.parse_step(value if isinstance(value, str) else "")
    except ValueError:
        raise _wrong("write a step as 15m, 6h or 1d") from None


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{message}", {"message": message})


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


Time = Annotated[
    int,
    BeforeValidator(_time),
    PlainSerializer(times.text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Step = Annotated[
    int,
    BeforeValidator(_step),
    PlainSerializer(times.step_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[1-9]\d{0,5}[mhd]$"}),
]
Names = Annotated[
    tuple[_Text, ...],
    Strict(False),
    BeforeValidator(_names),
    Field(max_length=MOST_NAMES),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, populate_by_name=True
    )


class Watched(_Part):
    """Which series a rule watches, together; what is left out is any."""

    model: Names = Field((), description="Of these models.")
    model_version: Names = Field((), description="Of these versions.")
    variant: Names = Field((), description="Under these variants.")
    settings: Names = Field((), description="With settings of these hashes.")
    label_schema: Names = Field(
        (), description="Labelled under these schemas: name or name@version."
    )
    tags: dict[_Text, Names] = Field(default_factory=dict, description="Whose tags are these.")
    class_: _Text | Annotated[int, Field(ge=0)] | None = Field(
        None, alias="class", description="One class only: its name or index."
    )


class Reference(_Part):
    """Rows that say what is usual."""

    from_: Time | None = Field(None, alias="from", description="Not before; null: the beginning.")
    to: Time | None = Field(None, description="Before; null: where the watched time begins.")
    model_version: Names = Field((), description="Of these versions; none: those that are watched.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.from_ is not None and self.to is not None and self.from_ >= self.to:
            raise _wrong("from must be before to")
        return self


class Rule(_Part):
    """A rule: when a mean over some rows, or a quantile, lies beyond a target, it fires.

    At every bucket of time it asks whether rows since *any* bucket speak against the target, so
    that levels hold however often it is looked at: while nothing is wrong it ever fires with
    probability `alpha` at most.
    """

    name: str = Field(pattern=NAME, description="What the alert is called in its project.")
    metric: str = Field(
        "loss.mean",
        max_length=64,
        description="What is watched: a mean over rows, or a quantile of their losses.",
    )
    selection: Watched = Field(default_factory=Watched, description="Of which rows.")
    kind: Literal["threshold", "reference", "cusum"] = Field(
        description="`threshold`: the target is a number. `reference`: the mean of other rows, as "
        "surely as they tell it. `cusum`: either, and the shift of the mean to look for is known."
    )
    direction: Literal["above", "below"] = Field("above", description="Which side is wrong.")
    threshold: float | None = Field(None, description="The target, in the metric's unit.")
    reference: Reference | None = Field(None, description="Instead of a threshold.")
    shift: Annotated[float, Field(gt=0)] | None = Field(
        None, description="`cusum`: the smallest shift worth an alarm, in the metric's unit."
    )
    alpha: float = Field(0.05, gt=0, le=0.5, description="Probability of ever firing falsely.")
    min_rows: int = Field(
        500,
        ge=2,
        description="Fewer rows raise no alarm. Losses are skewed: their means are close to normal "
        "only over many. Quantiles need more: 50 rows beyond them, of p99 5000 in all.",
    )
    step: Step = Field(
        times.HOUR,
        description="Width of the buckets: 15m, 6h, 1d.",
        json_schema_extra={"default": "1h"},
    )
    from_: Time | None = Field(
        None, alias="from", description="Watch rows from here on; null: since the rule was made."
    )
    webhook: str | None = Field(
        None, max_length=2048, description="Where changes are posted to; a host that is allowed."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        wanted: dict[str, bool | None] = {
            "threshold": {"threshold": True, "reference": False, "cusum": None}[self.kind],
            "reference": {"threshold": False, "reference": True, "cusum": None}[self.kind],
            "shift": self.kind == "cusum",
        }
        for name, needed in wanted.items():
            given = getattr(self, name) is not None
            if needed is not None and given != needed:
                raise _wrong(f"kind {self.kind} {'needs' if needed else 'takes no'} {name}")
        if isinstance(self.selection.class_, str) and self.selection.class_.startswith("top:"):
            raise _wrong("name one class: which are the heaviest changes with the rows")
        if self.kind == "cusum" and (self.threshold is None) == (self.reference is None):
            raise _wrong("kind cusum needs either threshold or reference")
        return self

    def stored(self) -> dict[str, Any]:
        """Return the rule as JSON holds it."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=False)
