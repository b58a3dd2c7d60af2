"""The inference protocol: its models, derived from the registry, and its documents."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schema.answer import Problem
from service.schema.document import Document
from service.schema.variants import SettingsModel
from service.wire.kserve.datatypes import ALL, REALS, WHOLES
from service.wire.kserve.model import Input, Model
from service.wire.kserve.outputs import outputs_of
from xentcore import Variant

# Named by the request's outputs, or lists of names, which parameters cannot be.
NOT_PARAMETERS: Final = ("outputs", "class_names", "sample_ids", "settings")


def inference_models(
    variants: Mapping[str, Variant[Any]], settings: Mapping[str, type[SettingsModel]]
) -> dict[str, Model]:
    """Return every variant as the protocol sees it."""
    return {slug: inference_model(each, settings[slug]) for slug, each in variants.items()}


def inference_model(variant: Variant[Any], settings: type[SettingsModel]) -> Model:
    """Return a variant as the protocol sees it."""
    properties = settings.model_json_schema()["properties"] if settings.model_fields else {}
    inputs = [
        Input("logits", "FP32", (-1, -1), REALS, optional=False),
        Input("labels", "INT64", (-1,), optional=False),
        Input("sample_weights", "FP64", (-1,), REALS),
    ]
    for name, schema in properties.items():
        entry = _entry(schema)
        if entry == "integer":
            inputs.append(Input(name, "INT64", (-1,), WHOLES))
        elif entry is not None:
            inputs.append(Input(name, "FP64", (-1,), (*REALS, *WHOLES)))
    return Model(
        name=variant.slug,
        inputs={each.name: each for each in inputs},
        outputs=outputs_of(variant.families),
        options={
            name: field.default
            for name, field in Document.model_fields.items()
            if name not in NOT_PARAMETERS
        },
        settings={name: schema.get("default") for name, schema in properties.items()},
    )


def _entry(schema: Mapping[str, Any]) -> str | None:
    """Return the JSON type of a list setting's entries; ``None`` for settings that are no lists."""
    for option in (schema, *schema.get("anyOf", ())):
        if option.get("type") == "array":
            entry: str = option["items"]["type"]
            return entry
    return None


Scalar = str | int | float | bool | None
Numbers = list[Any]


class InferenceInput(BaseModel):
    """A tensor that is sent: its numbers here, behind the JSON, or in shared memory."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    datatype: Literal[ALL]  # type: ignore[valid-type]
    shape: list[Annotated[int, Field(ge=0)]]
    parameters: dict[str, Scalar] | None = Field(
        None,
        description="`binary_data_size`: bytes behind the JSON. `shared_memory_region`, "
        "`shared_memory_byte_size`, `shared_memory_offset`: bytes in a registered region.",
    )
    data: Numbers | None = Field(None, description="In one list, or nested; row-major.")


class InferenceOutput(BaseModel):
    """A tensor that is asked for."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    parameters: dict[str, Scalar] | None = Field(
        None, description="`binary_data`: as bytes behind the JSON."
    )


class InferenceRequest(BaseModel):
    """An inference request of KServe V2."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(None, max_length=256, description="Repeated by the answer.")
    model_name: str | None = Field(None, description="Ignored, as the path says it.")
    model_version: str | None = Field(None, description="Ignored, as the path says it.")
    parameters: dict[str, Scalar] | None = Field(
        None,
        description="Settings of the variant and fields of the request document by name. "
        "`binary_data_output`: all outputs as bytes behind the JSON.",
    )
    inputs: list[InferenceInput] = Field(
        description="`logits`, `labels`; `sample_weights`, and settings that are lists."
    )
    outputs: list[InferenceOutput] | None = Field(None, description="`loss` where none is named.")


class AnsweredOutput(BaseModel):
    """A tensor that is answered."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Scalar] | None = Field(
        None, description="`binary_data_size`: bytes behind the JSON."
    )
    data: Numbers | None = Field(None, description="In one list; null where not finite.")


class InferenceAnswer(BaseModel):
    """An inference response of KServe V2."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Scalar] = Field(
        description="`family`, `label_kind`; where there are any, `undefined` and `diagnostics`."
    )
    outputs: list[AnsweredOutput]


class InferenceProblem(Problem):
    """An error, as the protocol's clients read it and as RFC 9457 has it."""

    error: str = Field(description="The same as detail.")


class RegionRequest(BaseModel):
    """Part of a POSIX shared memory object on the service's host."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    key: str = Field(max_length=256, description="The object's name, as shm_open takes it.")
    offset: int = Field(0, ge=0, lt=1 << 63, description="Where the region begins in it, bytes.")
    byte_size: int = Field(ge=1, lt=1 << 63)


def example_of(variant: Variant[Any]) -> dict[str, Any]:
    """Return the worked example of a variant as an inference request."""
    logits, labels = variant.example["logits"], variant.example["labels"]
    return {
        "inputs": [
            {"name": "logits", "datatype": "FP32", "shape": _shape(logits), "data": logits},
            {"name": "labels", "datatype": "INT64", "shape": _shape(labels), "data": labels},
        ],
        "outputs": [{"name": "loss"}, {"name": "per_class_loss_mean"}],
    }


def _shape(lists: object) -> list[int]:
    return [len(lists), *_shape(lists[0])] if isinstance(lists, list) else []
