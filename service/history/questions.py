"""Query parameters as frozen documents: every one known, every offence named, none echoed."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Self, TypeVar, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from service.errors import Fault, InvalidDocument, escape
from service.history import times

TAG: Final = "tag."
_OFFSET: Final = re.compile(r" (?=\d\d:\d\d$)")
_TIME_SCHEMA: Final = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}],
    "examples": ["2026-01-31T12:00:00Z", 1769860800000],
}


def _time(value: str) -> int:
    # A + that was not escaped arrives as a space.
    return times.parse(_OFFSET.sub("+", value))


Time = Annotated[int, BeforeValidator(_time), WithJsonSchema(_TIME_SCHEMA)]
Names = Annotated[tuple[str, ...], Field(max_length=1000)]


def parts(values: object) -> object:
    """Return what stands between the commas of all values."""
    if not isinstance(values, list):
        return values
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


class Question(BaseModel):
    """What is asked with a URL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parameters(cls) -> list[dict[str, Any]]:
        """Return its parameters as OpenAPI describes them."""
        schema = cls.model_json_schema()
        required = schema.get("required", ())
        each = schema.get("properties", {}).items()
        return [_parameter(name, of, required=name in required) for name, of in each]


class Selection(Question):
    """Which series, and which time. Values of one parameter are alternatives."""

    model: Names = Field((), description="Of these models.")
    model_version: Names = Field((), description="Of these versions.")
    variant: Names = Field((), description="Under these variants.")
    settings: Names = Field((), description="With settings of these hashes.")
    label_schema: Names = Field(
        (), description="Labelled under these schemas: name or name@version."
    )
    tags: dict[str, Names] = Field(
        default_factory=dict, description="tag.KEY=value: whose tag KEY has one of these values."
    )
    from_: Time | None = Field(
        None,
        alias="from",
        description="Not before: RFC 3339 with an offset, or milliseconds since 1970. Default: the "
        "beginning.",
    )
    to: Time | None = Field(None, description="Before: as `from`. Default: the end.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        in_order(self.from_, self.to, "from")
        return self


class Referring(Selection):
    """A selection beside which the same series in another time may stand."""

    reference_from: Time | None = Field(None, description="A reference, not before: as `from`.")
    reference_to: Time | None = Field(None, description="A reference, before: as `from`.")

    @model_validator(mode="after")
    def _reference_in_order(self) -> Self:
        in_order(self.reference_from, self.reference_to, "reference_from")
        return self

    def reference(self) -> "Referring | None":
        """Return the same selection in the reference's time; ``None`` where there is none."""
        if self.reference_from is None and self.reference_to is None:
            return None
        return self.model_copy(update={"from_": self.reference_from, "to": self.reference_to})


def in_order(start: int | None, end: int | None, name: str) -> None:
    """Refuse a time that ends before it begins. Raises ValueError."""
    if start is not None and end is not None and start >= end:
        raise ValueError(f"{name} must be before {name.replace('from', 'to')}")


Q = TypeVar("Q", bound=Question)


def read(model: type[Q], pairs: Iterable[tuple[str, str]]) -> Q:
    """Return query parameters as a document. An empty value is as if it were not there.

    Raises:
        InvalidDocument: naming every parameter that is unknown, given twice, or out of range.
    """
    given: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        if value:
            given[name].append(value)
    known = {field.alias or name: field for name, field in model.model_fields.items()}
    document: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, found in given.items():
        if name.startswith(TAG) and "tags" in known:
            document.setdefault("tags", {})[name.removeprefix(TAG)] = found
        elif name not in known or name == "tags":
            listed = ", ".join(f"{TAG}KEY" if each == "tags" else each for each in known)
            faults.append(Fault(f"/{escape(name)}", f"no such parameter; known: {listed}"))
        else:
            many = get_origin(known[name].annotation) is tuple
            document[name] = found if many else found[-1]
            faults += [] if many or len(found) == 1 else [Fault(f"/{name}", "give it once")]
    if faults:
        raise InvalidDocument(faults)
    return _validated(model, document)


def _validated(model: type[Q], document: Mapping[str, object]) -> Q:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidDocument(_faults(error)) from None


def _parameter(name: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    described = {"name": name, "in": "query", "description": schema.pop("description", "")}
    if name == "tags":
        # There is no way to say "tag." in front of every key.
        free = {"type": "object", "additionalProperties": {"type": "string"}}
        return described | {"name": "tag", "style": "form", "explode": True, "schema": free}
    return described | {"required": required, "schema": schema}


def _faults(error: ValidationError) -> list[Fault]:
    found: Mapping[str, str] = {
        "/".join(str(part) for part in each["loc"]): each["msg"].removeprefix("Value error, ")
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    }
    return [
        Fault(f"/{place}" if place else "", message[:1].lower() + message[1:])
        for place, message in found.items()
    ]
