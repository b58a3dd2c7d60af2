"""The settings of every variant as Pydantic models, derived from their dataclasses."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, Strict, create_model

from xentcore import Settings, Variant

# The declaration's words for a range, and Pydantic's.
_BOUNDS: Final = {"minimum": "ge", "maximum": "le", "above": "gt", "below": "lt"}


class SettingsModel(BaseModel):
    """Base of the settings of every variant: unknown names and other types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def camel(slug: str) -> str:
    """Return the name of a variant as a class has it: ``label-smoothing`` -> ``LabelSmoothing``."""
    return "".join(part.capitalize() for part in slug.split("-"))


def settings_model(variant: Variant[Any]) -> type[SettingsModel]:
    """Return the model of a variant's settings: names, types, defaults, ranges, descriptions."""
    hints = get_type_hints(variant.settings_type)
    definitions: dict[str, Any] = {}
    for declared in fields(variant.settings_type):
        bounds = {
            keyword: declared.metadata[word]
            for word, keyword in _BOUNDS.items()
            if word in declared.metadata
        }
        definitions[declared.name] = (
            _strict(hints[declared.name], bounds),
            Field(
                ... if declared.default is MISSING else declared.default,
                description=declared.metadata.get("description"),
            ),
        )
    return create_model(
        f"{camel(variant.slug)}Settings",
        __base__=SettingsModel,
        __doc__=f"Settings of `{variant.slug}`.",
        **definitions,
    )


def settings_from(variant: Variant[Any], model: BaseModel) -> Settings:
    """Return the core's settings.

    Raises:
        xentcore.InvalidSetting: what the core checks beyond types and ranges.
    """
    values = {name: getattr(model, name) for name in type(model).model_fields}
    settings: Settings = variant.settings_type(**values)
    return settings


def _strict(annotation: Any, bounds: Mapping[str, float]) -> Any:  # noqa: ANN401  (types are values here)
    """Return ``annotation`` with the bounds on every number, and lists accepted as tuples."""
    if annotation in (int, float):
        return Annotated[annotation, Field(**bounds)]  # type: ignore[call-overload]
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is tuple:
        entry: Any = _strict(arguments[0], bounds)
        # JSON has no tuples; a million wrong entries are one error.
        return Annotated[tuple[entry, ...], Strict(False), Field(fail_fast=True)]
    if origin in (types.UnionType, Union):
        return Union[tuple(_strict(argument, bounds) for argument in arguments)]  # noqa: UP007
    if origin is Literal or annotation in (str, bool, types.NoneType):
        return annotation
    raise TypeError(f"no schema for a setting of type {annotation}")
