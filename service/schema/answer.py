"""Answer documents, as the OpenAPI document describes them. Nothing large is validated by them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from xentcore import Family, LabelKind

Numbers = list[float | None]


class Live(BaseModel):
    """The process answers."""

    live: bool


class Ready(BaseModel):
    """Work is taken, and what it is done with."""

    ready: bool
    device: str = Field(description="`cpu` or `cuda:N`.")
    kernels: Literal["eager", "building", "compiled", "failed"]


class VariantPage(BaseModel):
    """What there is to know about one variant."""

    variant: str = Field(description="Its name in routes.")
    families: list[Family] = Field(description="Which passes serve it, by kind of labels.")
    summary: str
    label_kinds: list[LabelKind] = Field(description="The kinds of labels that it takes.")
    formula: str = Field(description="The loss, in nats.")
    gradient: str = Field(description="Its derivative by the logits, before reduction.")
    source: str = Field(description="Where the definition comes from.")
    settings: dict[str, Any] = Field(description="JSON schema of its settings, with defaults.")
    example: dict[str, Any] = Field(description="Settings, logits and labels that work.")


class VariantList(BaseModel):
    """All variants."""

    variants: list[VariantPage]


class ReductionAnswer(BaseModel):
    """How the loss was reduced; sum / denominator is the mean, whatever was asked for."""

    name: Literal["mean", "sum", "none"]
    sum: float | None = Field(description="Nats.")
    denominator: float | None
    normaliser: Literal["weights", "rows", "elements"]


class RowsAnswer(BaseModel):
    """What became of the rows."""

    total: int
    evaluated: int
    ignored: int
    nonfinite: int = Field(description="Rows with a NaN or +inf logit.")
    infinite: int = Field(description="Rows whose loss is infinite.")


class PerClass(BaseModel):
    """Columns with one entry per class. An absent class has support 0 and null means."""

    model_config = {"extra": "allow"}

    class_: list[int] = Field(alias="class", description="-1: all classes that are not listed.")
    name: list[str] | None = Field(None, description="Present when class_names were given.")


class Buckets(BaseModel):
    """The buckets that hold rows, ascending: lower < loss <= upper for count rows."""

    lower: Numbers
    upper: Numbers
    count: list[int]


class DistributionAnswer(BaseModel):
    """Per-row losses in nats, from logarithmic buckets (relative error at most 1 %)."""

    min: float | None
    max: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    buckets: Buckets


class Bins(BaseModel):
    """Equal bins of confidence."""

    lower: Numbers
    upper: Numbers
    count: list[int]
    confidence_mean: Numbers
    accuracy: Numbers


class CalibrationAnswer(BaseModel):
    """How far confidence and accuracy agree."""

    ece: float | None = Field(description="Expected calibration error, 0 to 1.")
    brier: float | None
    entropy_mean: float | None = Field(description="Nats.")
    bins: Bins


class Hardest(BaseModel):
    """The rows of largest loss, largest first, as columns."""

    row: list[int]
    label: list[int]
    prediction: list[int]
    probability: Numbers
    loss: Numbers = Field(description="Nats.")
    class_index: list[int | None] | None = Field(None, description="Sigmoid family only.")
    id: list[str | int] | None = Field(None, description="Present when sample_ids were given.")


class DiagnosticAnswer(BaseModel):
    """Something about the batch that its sender should know."""

    code: str = Field(description="Stable, for machines.")
    severity: Literal["info", "warning"]
    message: str
    count: int


class TrackAnswer(BaseModel):
    """How a tracked batch was recorded."""

    status: Literal["created", "replayed"] = Field(
        description="replayed: it was there already, from the same body; nothing was added."
    )
    series: str = Field(description="What it is called in `GET /projects/{project}/series`.")
    revision: int = Field(description="1, and one more for each change of its labels.")
    pending: bool = Field(description="Whether rows wait for their labels.")


class LabelledRows(BaseModel):
    """How far the rows of a batch have their labels."""

    total: int
    labelled: int


class LabelledBatch(BaseModel):
    """What became of one batch: of one variant, where several were compared."""

    series: str
    variant: str
    status: Literal["completed", "corrected", "unchanged"] = Field(
        description="completed: no row waits any more; unchanged: these labels were there already."
    )
    revision: int
    pending: bool = Field(description="Whether rows still wait for their labels.")
    rows: LabelledRows
    loss: float | None = Field(description="The mean in nats; null where no row has a label.")


class LabelsAnswer(BaseModel):
    """The answer of `POST /labels`."""

    batches: list[LabelledBatch]


class Result(BaseModel):
    """One variant's answer. What was not asked for is absent."""

    variant: str
    family: Family
    loss: float | None = Field(description="The reduced loss in nats; null where undefined.")
    undefined: Literal["no_rows", "zero_weight"] | None
    reduction: ReductionAnswer
    rows: RowsAnswer
    classes: int
    label_kind: LabelKind | None = Field(description="How the labels were read.")
    settings: dict[str, Any] = Field(description="The settings that were used.")
    per_sample: list[Any] | None = Field(None, description="Nats per row, in the labels' shape.")
    row_status: list[Any] | None = Field(
        None,
        description="Beside per_sample: 0 evaluated, 1 ignored, 2 not finite, 3 infinite loss.",
    )
    gradient: list[Any] | None = Field(None, description="d loss / d logits, in their shape.")
    per_class: PerClass | None = None
    distribution: DistributionAnswer | None = None
    calibration: CalibrationAnswer | None = None
    hardest: Hardest | None = None
    row_statistics: dict[str, list[Any]] | None = Field(None, description="Columns per row.")
    diagnostics: list[DiagnosticAnswer]
    track: TrackAnswer | None = Field(None, description="Present when the batch is tracked.")


class EvaluatedModel(BaseModel):
    """Which model made the logits."""

    name: str
    version: str


class LossAnswer(Result):
    """The answer of ``POST /loss/{variant}``."""

    model: EvaluatedModel | None = Field(
        None, description="Present when a model made the logits: `gradient` is by those."
    )

    nulls: int = Field(description="Numbers of this answer that are not finite and thus null.")


class ComparedResult(Result):
    """One variant's answer in a comparison."""

    name: str


class ClassShare(BaseModel):
    """Columns: the part of the sum of the loss that each class has. Null where the sum is 0."""

    class_: list[int] = Field(alias="class", description="-1: all classes that are not listed.")
    name: list[str] | None = Field(None, description="Present when class_names were given.")
    share: Numbers


class ComparedVariant(BaseModel):
    """What of one variant can be compared with another's."""

    name: str
    normalised_entropy: float | None = Field(
        description="The loss over that of a predictor that gives every row the class frequencies "
        "of the batch: 1 is as good as knowing those only, 0 is perfect."
    )
    prior_sum: float | None = Field(
        description="The sum of that predictor's loss, nats; null where there is none, or where it "
        "is infinite."
    )
    undefined: (
        Literal[
            "no_rows",
            "zero_weight",
            "loss_not_finite",
            "prior_loss_infinite",
            "prior_loss_not_positive",
        ]
        | None
    ) = Field(description="Why there is no normalised entropy.")
    class_share: ClassShare


class Pair(BaseModel):
    """How two results compare."""

    a: str
    b: str
    comparable: bool = Field(description="Whether their losses have the same unit.")
    reason: str | None = Field(description="Why not.")
    rows: int = Field(
        description="Rows that both evaluated, with a finite loss and a weight above 0."
    )
    spearman: float | None = Field(
        description="Rank correlation of the losses of these rows, before sample weights; a row "
        "of weight 2 counts as two."
    )
    spearman_undefined: Literal["too_few_rows", "constant_loss"] | None
    gradient_cosine: float | None = Field(
        description="Cosine of the angle between the gradients of the summed losses, all rows and "
        "classes in one vector."
    )
    gradient_cosine_undefined: Literal["zero_gradient", "gradient_not_finite"] | None


class CompareAnswer(BaseModel):
    """The answer of ``POST /compare``."""

    results: list[ComparedResult]
    variants: list[ComparedVariant] = Field(description="In the order of the results.")
    pairs: list[Pair]
    nulls: int = Field(description="Numbers of this answer that are not finite and thus null.")


class ModelPort(BaseModel):
    """An input or an output of a model."""

    name: str
    dtype: str
    shape: list[int | str | None] = Field(description="A name or null: of any size.")


class ModelVersion(BaseModel):
    """One version of a model. One that is broken has `broken` and nothing else."""

    version: str
    broken: str | None = Field(None, description="Why it cannot be used.")
    inputs: list[ModelPort] | None = Field(None, description="What takes the features.")
    outputs: list[ModelPort] | None = Field(None, description="All of the file.")
    logits: ModelPort | None = Field(None, description="What is evaluated.")
    classes: list[str] | None = Field(None, description="Their names, where model.json has them.")
    recognised: (
        Literal["none", "stated", "softmax", "log_softmax", "sigmoid", "probabilities"] | None
    ) = Field(
        None,
        description="What stands behind the logits and is left out; stated: by model.json; "
        "probabilities: they are all that the model gives.",
    )
    note: str | None = Field(None, description="About that.")
    opset: int | None = None
    size: int | None = Field(None, description="Bytes of model.onnx.")


class ModelPage(BaseModel):
    """A model and its versions."""

    name: str
    versions: list[ModelVersion] = Field(description="Newest first: the first one is the default.")


class ModelList(BaseModel):
    """All models."""

    models: list[ModelPage]


class ModelUploaded(BaseModel):
    """What became of an upload."""

    status: Literal["created", "unchanged"] = Field(
        description="unchanged: the version was there already, with the same bytes."
    )
    name: str
    version: ModelVersion


class FaultAnswer(BaseModel):
    """One offending part of a request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the request document.")
    message: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="Stable, for machines.")
    title: str
    status: int
    detail: str = Field(description="The fact and the way out.")
    request_id: str
    errors: list[FaultAnswer]
