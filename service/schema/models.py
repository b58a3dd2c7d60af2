"""The document of every operation, made from the registry."""

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, WithJsonSchema, create_model

from service.schema.document import CompareItem, Document
from service.schema.track import LabelsDocument
from service.schema.variants import SettingsModel, camel, settings_model
from service.wire.payload import TORCH_DTYPES
from xentcore import Variant


class Base64Tensor(BaseModel):
    """A tensor as base64: little-endian, row-major."""

    dtype: Literal[tuple(TORCH_DTYPES)]  # type: ignore[valid-type]
    shape: list[Annotated[int, Field(ge=0)]]
    data: str = Field(json_schema_extra={"contentEncoding": "base64"})


def loss_model(variant: Variant[Any], settings: type[SettingsModel]) -> type[Document]:
    """Return the document of ``POST /loss/{variant}``."""
    return create_model(
        f"{camel(variant.slug)}Request",
        __base__=Document,
        __doc__=f"A batch and how `{variant.slug}` is to evaluate it.",
        settings=_settings_field(settings),
    )


def _settings_field(settings: type[SettingsModel]) -> Any:  # noqa: ANN401  (a field definition)
    """Return the field that holds a variant's settings: required where one of them is."""
    required = any(field.is_required() for field in settings.model_fields.values())
    description = "The variant's settings."
    if required:
        return (settings, Field(..., description=description))
    return (settings, Field(default_factory=settings, description=description))


def _item(slug: str, settings: type[SettingsModel]) -> type[CompareItem]:
    variant: Any = (Literal[slug], ...)
    return create_model(
        f"Compare{camel(slug)}",
        __base__=CompareItem,
        __doc__=f"`{slug}` in a comparison.",
        variant=variant,
        settings=_settings_field(settings),
    )


def compare_model(
    variants: Mapping[str, Variant[Any]],
    settings: Mapping[str, type[SettingsModel]],
    most_variants: int,
) -> type[Document]:
    """Return the document of ``POST /compare``."""
    items = [_item(slug, settings[slug]) for slug in variants]
    # Types are values here: the registry makes them.
    item: Any = Annotated[reduce(or_, items), Field(discriminator="variant")]
    variants_field: Any = (
        Annotated[list[item], Field(min_length=1, max_length=most_variants)],
        ...,
    )
    return create_model(
        "CompareRequest",
        __base__=Document,
        __doc__="A batch and the variants to evaluate it with, in one pass.",
        variants=variants_field,
    )


def settings_models(variants: Mapping[str, Variant[Any]]) -> dict[str, type[SettingsModel]]:
    """Return the settings model of every variant."""
    return {slug: settings_model(variant) for slug, variant in variants.items()}


def labels_model() -> type[LabelsDocument]:
    """Return the model of the JSON body of ``POST /labels``, for the OpenAPI document only."""
    return create_model(
        "LabelsRequest",
        __base__=LabelsDocument,
        __doc__=LabelsDocument.__doc__,
        labels=_tensor_field("As the batch would have had them, of all rows or of `sample_ids`."),
    )


def features_models() -> tuple[type[Document], type[Document]]:
    """Return the models of the JSON bodies of features, for the OpenAPI document only."""
    settings: Any = (
        dict[str, Any],
        Field({}, description="The variant's settings, as `POST /loss/{variant}` has them."),
    )
    variants: Any = (
        list[dict[str, Any]],
        Field(..., description="What to evaluate, as `POST /compare` has it."),
    )
    return (
        _of_features(
            "ModelRequest",
            "how the logits that a model makes are to be evaluated",
            settings=settings,
        ),
        _of_features(
            "ModelCompareRequest",
            "the variants to evaluate with what a model makes of them",
            variants=variants,
        ),
    )


def _of_features(name: str, words: str, **asked: Any) -> type[Document]:  # noqa: ANN401  (fields)
    return create_model(
        name,
        __base__=Document,
        __doc__=f"A batch of features, and {words}. "
        "`track` may leave out model and model_version: they are this model's.",
        features=_tensor_field("As the model takes them: the first axis is that of the rows."),
        labels=_tensor_field(
            "Of the logits. Required, unless the batch is tracked and its labels are pending.",
            default_factory=lambda: None,
        ),
        sample_weights=_tensor_field("One weight per row.", default_factory=lambda: None),
        **asked,
    )


def with_tensors(document: type[Document]) -> type[Document]:
    """Return the model of the whole JSON body, for the OpenAPI document only."""
    return create_model(
        document.__name__,
        __base__=document,
        __doc__=document.__doc__,
        logits=_tensor_field("Shape (N,), (N, C) or (N, C, d1..dk)."),
        labels=_tensor_field(
            "Integer labels, or the logits' shape; whole numbers, reals or booleans. Required, "
            "unless the batch is tracked and its labels are pending.",
            default_factory=lambda: None,
        ),
        sample_weights=_tensor_field("One weight per row.", default_factory=lambda: None),
    )


def _tensor_field(description: str, **more: object) -> Any:  # noqa: ANN401  (a field definition)
    annotation = Annotated[Any, WithJsonSchema({**_TENSOR, "description": description})]
    return (annotation, Field(**more))  # type: ignore[call-overload]


_TENSOR: Final = {
    "anyOf": [
        {"type": "array", "items": {}, "title": "nested lists"},
        {"$ref": "#/components/schemas/Base64Tensor"},
    ]
}
