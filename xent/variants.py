"""Variants and their settings. Generated from openapi/openapi.json by `make signatures`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, Literal, Required, TypedDict, TypeVar, Unpack, overload

from numpy.typing import NDArray

from xent.bodies import Progress
from xent.tracking import Track

R_co = TypeVar("R_co", covariant=True)
Reals = Sequence[float] | NDArray[Any]
Integers = Sequence[int] | NDArray[Any]
Texts = Sequence[str] | NDArray[Any]
Ids = Sequence[str | int] | NDArray[Any]

VARIANTS: Final = (
    "asymmetric",
    "balanced-softmax",
    "bi-tempered",
    "binary",
    "categorical",
    "class-balanced",
    "confidence-penalty",
    "focal",
    "generalized",
    "label-smoothing",
    "ldam",
    "logit-adjusted",
    "ordinal",
    "poly1",
    "quality-focal",
    "sparse",
    "symmetric",
    "taylor",
    "temperature",
    "weighted",
    "z-loss",
)
OPTIONS: Final = (
    "class_axis",
    "class_names",
    "gradient_dtype",
    "ignore_index",
    "input",
    "k",
    "label_kind",
    "nonfinite",
    "normaliser",
    "outputs",
    "per_class_limit",
    "probability_floor",
    "reduction",
    "sample_ids",
)
SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "asymmetric": ("gamma_neg", "gamma_pos", "margin"),
    "balanced-softmax": ("class_counts",),
    "bi-tempered": ("smoothing", "t1", "t2"),
    "binary": ("class_weights", "positive_weights", "smoothing"),
    "categorical": ("class_weights",),
    "class-balanced": ("beta", "class_counts", "gamma"),
    "confidence-penalty": ("beta",),
    "focal": ("activation", "alpha", "gamma"),
    "generalized": ("class_weights", "q"),
    "label-smoothing": ("class_weights", "smoothing", "spread"),
    "ldam": ("class_counts", "class_weights", "max_margin", "scale"),
    "logit-adjusted": ("class_counts", "class_prior", "tau"),
    "ordinal": ("class_weights",),
    "poly1": ("class_weights", "epsilon"),
    "quality-focal": ("beta",),
    "sparse": ("class_weights",),
    "symmetric": ("alpha", "beta", "log_zero"),
    "taylor": ("class_weights", "order"),
    "temperature": ("class_weights", "temperature"),
    "weighted": ("beta", "class_counts", "class_weights"),
    "z-loss": ("penalty",),
}


class Options(TypedDict, total=False):
    """What every evaluation may be told."""

    sample_weights: object
    """One weight per row: an array of any library."""

    track: Track
    """Has the history remember the batch."""

    progress: Progress
    """Told how many bytes were sent, and of how many where that is known."""

    class_axis: int
    """The axis of the logits that holds the classes; default 1."""

    class_names: Texts | None
    """One name per class; default None."""

    gradient_dtype: Literal["float16", "bfloat16", "float32", "float64"] | None
    """What the gradient is rounded to, once; None: the logits' dtype; default None."""

    ignore_index: int | None
    """Integer label of rows to leave out; None leaves none out; default -100."""

    input: Literal["logits", "log_probabilities", "probabilities"]
    """What the numbers in `logits` are; default "logits"."""

    k: int
    """How many rows `hardest` lists; default 10."""

    label_kind: Literal["integer", "one_hot", "probabilities", "multi_hot", "binary", "auto"]
    """How labels are to be read; `auto` decides by shape and values; default "auto"."""

    nonfinite: Literal["exclude", "reject", "propagate"]
    """What becomes of rows with a NaN or an infinite loss; default "exclude"."""

    normaliser: Literal["weights", "rows", "elements"] | None
    """What the mean divides by; None: `weights` in the softmax family, `elements` in the
    sigmoid family; default None.
    """

    outputs: Sequence[
        Literal[
            "per_sample",
            "gradient",
            "per_class",
            "distribution",
            "calibration",
            "hardest",
            "row_statistics",
        ]
    ]
    """What to answer beside the loss; default []."""

    per_class_limit: int | None
    """List this many classes, those with the largest share of the loss, and fold the rest into
    one row of class -1. Left out: 1000 in JSON answers, all in safetensors. None: all; default
    None.
    """

    probability_floor: float | None
    """Clip probabilities to [floor, 1 - floor]; None clips nothing; default None."""

    reduction: Literal["mean", "sum", "none"]
    """What `loss` and `gradient` are of; `none`: of each row by itself; default "mean"."""

    sample_ids: Ids | None
    """One name or number per row; default None."""


class Asymmetric(Options, total=False):
    """Settings of ``asymmetric``."""

    gamma_neg: float
    """How fast easy negatives lose their say; default 4.0."""

    gamma_pos: float
    """How fast easy positives lose their say; default 0.0."""

    margin: float
    """M: negatives of p <= m count nothing, all others as p - m; default 0.05."""


class BalancedSoftmax(Options, total=False):
    """Settings of ``balanced-softmax``."""

    class_counts: Integers | None
    """Rows n_c of each class, of the training set say; none counts the batch, and a class it
    does not hold has p = 0, a label on it an infinite loss; default None.
    """


class BiTempered(Options, total=False):
    """Settings of ``bi-tempered``."""

    smoothing: float
    """Share of the label that the other classes are given, as label-smoothing's 'others';
    default 0.0.
    """

    t1: float
    """Temperature of the logarithm: below 1 the loss of a row is bounded by 1/(1-t1); 1 is the
    natural logarithm; default 0.8.
    """

    t2: float
    """Temperature of the softmax: above 1 its tail is heavier; 1 is the usual softmax; default
    1.2.
    """


class Binary(Options, total=False):
    """Settings of ``binary``."""

    class_weights: Reals | None
    """Weight of each class; none means 1 for all; default None."""

    positive_weights: float | Reals
    """Weight P of the positive side, one for all or one per class; default 1.0."""

    smoothing: float
    """E: t is used as t(1-e) + e/2; default 0.0."""


class Categorical(Options, total=False):
    """Settings of ``categorical``."""

    class_weights: Reals | None
    """Weight of each class; none means 1 for all; default None."""


class ClassBalanced(Options, total=False):
    """Settings of ``class-balanced``."""

    beta: float
    """B: 0 weighs all classes alike, towards 1 by inverse frequency; default 0.999."""

    class_counts: Integers | None
    """Rows n_c of each class, of the training set say; none counts the batch, where an absent
    class weighs 0; default None.
    """

    gamma: float
    """How fast easy rows lose their say: the class-balanced focal loss; 0 is cross-entropy;
    default 0.0.
    """


class ConfidencePenalty(Options, total=False):
    """Settings of ``confidence-penalty``."""

    beta: float
    """What the entropy of the prediction is worth; 0 is cross-entropy; default 0.1."""


class Focal(Options, total=False):
    """Settings of ``focal``."""

    activation: Literal["auto", "softmax", "sigmoid"]
    """Auto: sigmoid for binary and multi-hot labels, softmax for all others; default "auto"."""

    alpha: float | Reals | None
    """Softmax: factor of the row's class; sigmoid: the positive side is weighted alpha, the
    negative side 1 - alpha, so that it must not exceed 1; part of the loss, in no denominator;
    default None.
    """

    gamma: float
    """How fast easy rows lose their say; 0 is cross-entropy; default 2.0."""


class Generalized(Options, total=False):
    """Settings of ``generalized``."""

    class_weights: Reals | None
    """Weight of each class; none means 1 for all; default None."""

    q: float
    """0 is cross-entropy, 1 is 1-p, half the mean absolute error; larger is more robust to
    wrong labels; default 0.7.
    """


class LabelSmoothing(Options, total=False):
    """Settings of ``label-smoothing``."""

    class_weights: Reals | None
    """Weight of each class; none means 1 for all; default None."""

    smoothing: float
    """Share e of the label that is spread over classes; default 0.1."""

    spread: Literal["uniform", "others"]
    """Uniform: t' = (1-e)t + e/C, as PyTorch and Keras; others: the true class keeps 1-e and
    the rest share e; default "uniform".
    """


class Ldam(Options, total=False):
    """Settings of ``ldam``."""

    class_counts: Integers | None
    """Rows n_c of each class, of the training set say; none counts the batch, where an absent
    class has the largest margin; default None.
    """

    class_weights: Reals | None
    """Weight of each class; none means 1 for all; default None."""

    max_margin: float
    """Margin of the rarest class; times scale at most 60; default 0.5."""

    scale: float
    """S that logits and margins are multiplied by; default 30.0."""


class LogitAdjusted(Options, total=False):
    """Settings of ``logit-adjusted``."""

    class_counts: Integers | None
    """Rows n_c of each class, in place of class_prior; without either the batch is counted, and
    a class it does not hold has prior 0: p = 0, and a label on it an infinite loss; default
    None.
    """

    class_prior: Reals | None
    """How frequent each class is in training; divided by its sum, so that any unit will do;
    default None.
    """

    tau: float
    """How much of the log prior is added; 0 is cross-entropy; default 1.0."""


class Ordinal(Options, total=False):
    """Settings of ``ordinal``."""

    class_weights: Reals | None
    """Importance of each threshold; none means 1 for all; default None."""


class Poly1(Options, total=False):
    """Settings of ``poly1``."""

    class_weights: Reals | None
    """Weight of each class; none means 1 for all; default None."""

    epsilon: float
    """What is added to the coefficient 1 that 1 - p has in the series of -log p; 0 is cross-
    entropy; default 1.0.
    """


class QualityFocal(Options, total=False):
    """Settings of ``quality-focal``."""

    beta: float
    """How fast elements close to their target lose their say; 0 is binary; default 2.0."""


class Sparse(Options, total=False):
    """Settings of ``sparse``."""

    class_weights: Reals | None
    """Weight of each class; none means 1 for all; default None."""


class Symmetric(Options, total=False):
    """Settings of ``symmetric``."""

    alpha: float
    """Factor of cross-entropy; default 0.1."""

    beta: float
    """Factor of reverse cross-entropy; default 1.0."""

    log_zero: float
    """A: what log 0 counts as, and the least a log t is; default -4.0."""


class Taylor(Options, total=False):
    """Settings of ``taylor``."""

    class_weights: Reals | None
    """Weight of each class; none means 1 for all; default None."""

    order: int
    """N: how many terms; 1 is 1-p, half the mean absolute error, and more come closer to cross-
    entropy; default 2.
    """


class Temperature(Options, total=False):
    """Settings of ``temperature``."""

    class_weights: Reals | None
    """Weight of each class; none means 1 for all; default None."""

    temperature: float
    """T that logits are divided by: above 1 softens the probabilities, below 1 sharpens them;
    default 1.0.
    """


class Weighted(Options, total=False):
    """Settings of ``weighted``."""

    beta: float
    """B of 'effective_number'; default 0.999."""

    class_counts: Integers | None
    """Rows n_c of each class, of the training set say; none counts the batch, where an absent
    class weighs 0; default None.
    """

    class_weights: Required[Literal["balanced", "effective_number"] | Reals]
    """Weight of each class; 'balanced': R/(C n_c); 'effective_number': (1-b)/(1-b^n_c), scaled
    to sum C.
    """


class ZLoss(Options, total=False):
    """Settings of ``z-loss``."""

    penalty: float
    """Lambda: what the squared log-sum-exp is multiplied by; 0 is cross-entropy; default
    0.0001.
    """


class Losses(Generic[R_co]):
    """``loss``, with the settings of each variant as its keywords."""

    @overload
    def loss(
        self,
        variant: Literal["asymmetric"],
        logits: object,
        labels: object = None,
        **given: Unpack[Asymmetric],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["balanced-softmax"],
        logits: object,
        labels: object = None,
        **given: Unpack[BalancedSoftmax],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["bi-tempered"],
        logits: object,
        labels: object = None,
        **given: Unpack[BiTempered],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["binary"],
        logits: object,
        labels: object = None,
        **given: Unpack[Binary],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["categorical"],
        logits: object,
        labels: object = None,
        **given: Unpack[Categorical],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["class-balanced"],
        logits: object,
        labels: object = None,
        **given: Unpack[ClassBalanced],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["confidence-penalty"],
        logits: object,
        labels: object = None,
        **given: Unpack[ConfidencePenalty],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["focal"],
        logits: object,
        labels: object = None,
        **given: Unpack[Focal],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["generalized"],
        logits: object,
        labels: object = None,
        **given: Unpack[Generalized],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["label-smoothing"],
        logits: object,
        labels: object = None,
        **given: Unpack[LabelSmoothing],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["ldam"],
        logits: object,
        labels: object = None,
        **given: Unpack[Ldam],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["logit-adjusted"],
        logits: object,
        labels: object = None,
        **given: Unpack[LogitAdjusted],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["ordinal"],
        logits: object,
        labels: object = None,
        **given: Unpack[Ordinal],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["poly1"],
        logits: object,
        labels: object = None,
        **given: Unpack[Poly1],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["quality-focal"],
        logits: object,
        labels: object = None,
        **given: Unpack[QualityFocal],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["sparse"],
        logits: object,
        labels: object = None,
        **given: Unpack[Sparse],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["symmetric"],
        logits: object,
        labels: object = None,
        **given: Unpack[Symmetric],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["taylor"],
        logits: object,
        labels: object = None,
        **given: Unpack[Taylor],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["temperature"],
        logits: object,
        labels: object = None,
        **given: Unpack[Temperature],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["weighted"],
        logits: object,
        labels: object = None,
        **given: Unpack[Weighted],
    ) -> R_co: ...
    @overload
    def loss(
        self,
        variant: Literal["z-loss"],
        logits: object,
        labels: object = None,
        **given: Unpack[ZLoss],
    ) -> R_co: ...
    def loss(
        self,
        variant: str,
        logits: object,
        labels: object = None,
        **given: Any,
    ) -> R_co:
        """Return the loss of a batch under one variant.

        Args:
            variant: its name, ``focal`` say.
            logits: shape (N,), (N, C) or (N, C, d1..dk): an array of NumPy, PyTorch, JAX or
                whoever speaks DLPack, a frame or column of pandas, polars or Arrow, or lists.
                Without ``labels``: a mapping or table that holds ``logits`` and ``label``, or an
                iterable of such chunks or ``(logits, labels)``, which is sent as it comes.
            labels: classes, or the logits' shape.
            given: the variant's settings, and what every evaluation may be told: ``outputs``,
                ``reduction``, ``sample_weights``, ``track``, ...

        Raises:
            InvalidBatch: it cannot be sent.
            Problem: the service says why not.
            NoAnswer: nobody answered.
        """
        return self._loss(variant, logits, labels, given)

    def _loss(self, variant: str, logits: object, labels: object, given: Mapping[str, Any]) -> R_co:
        raise NotImplementedError
