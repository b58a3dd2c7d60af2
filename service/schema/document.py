"""The request document: everything beside the tensors, validated strictly."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schema.names import INT64_MAX, Ids, Name
from service.schema.track import Track
from service.wire.payload import TORCH_DTYPES
from xentcore import LabelKind, Options, Output


class Document(BaseModel):
    """How a batch is to be read and reduced, and what is to be answered."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    reduction: Literal["mean", "sum", "none"] = Field(
        "mean", description="What `loss` and `gradient` are of; `none`: of each row by itself."
    )
    normaliser: Literal["weights", "rows", "elements"] | None = Field(
        None,
        description="What the mean divides by; null: `weights` in the softmax family, "
        "`elements` in the sigmoid family.",
    )
    outputs: list[Output] = Field(
        [], description="What to answer beside the loss.", json_schema_extra={"uniqueItems": True}
    )
    label_kind: LabelKind | Literal["auto"] = Field(
        "auto", description="How labels are to be read; `auto` decides by shape and values."
    )
    class_axis: int = Field(
        1, ge=-64, le=63, description="The axis of the logits that holds the classes."
    )
    ignore_index: Annotated[int, Field(ge=-INT64_MAX - 1, le=INT64_MAX)] | None = Field(
        -100, description="Integer label of rows to leave out; null leaves none out."
    )
    input: Literal["logits", "log_probabilities", "probabilities"] = Field(
        "logits", description="What the numbers in `logits` are."
    )
    probability_floor: Annotated[float, Field(gt=0, lt=0.5)] | None = Field(
        None, description="Clip probabilities to [floor, 1 - floor]; null clips nothing."
    )
    nonfinite: Literal["exclude", "reject", "propagate"] = Field(
        "exclude", description="What becomes of rows with a NaN or an infinite loss."
    )
    k: int = Field(10, ge=1, le=10_000, description="How many rows `hardest` lists.")
    gradient_dtype: Literal["float16", "bfloat16", "float32", "float64"] | None = Field(
        None, description="What the gradient is rounded to, once; null: the logits' dtype."
    )
    per_class_limit: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="List this many classes, those with the largest share of the loss, and fold "
        "the rest into one row of class -1. Left out: 1000 in JSON answers, all in safetensors. "
        "null: all.",
    )
    # Fail fast: a million wrong names are one error.
    class_names: Annotated[list[Name], Field(fail_fast=True)] | None = Field(
        None, description="One name per class."
    )
    sample_ids: Ids | None = Field(None, description="One name or number per row.")
    track: Track | None = Field(
        None, description="Keep the sums of this batch for charts and comparisons; null: do not."
    )

    def options(self, *, per_class_limit: int | None) -> Options:
        """Return the core's options.

        Args:
            per_class_limit: what holds where the document does not say.

        Raises:
            xentcore.InvalidSetting: options that do not fit each other.
        """
        said = "per_class_limit" in self.model_fields_set
        dtype = self.gradient_dtype
        return Options(
            reduction=self.reduction,
            normaliser=self.normaliser,
            label_kind=self.label_kind,
            class_axis=self.class_axis,
            ignore_index=self.ignore_index,
            input=self.input,
            probability_floor=self.probability_floor,
            nonfinite=self.nonfinite,
            hardest=self.k,
            gradient_dtype=None if dtype is None else TORCH_DTYPES[dtype],
            per_class_limit=self.per_class_limit if said else per_class_limit,
        )


class CompareItem(BaseModel):
    """One variant of a comparison."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Name | None = Field(None, description="What the answer calls it; null: the variant.")
