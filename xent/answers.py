"""What the service answers, as objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from xent.arrays import GiveBack
from xent.errors import Unreadable
from xent.tables import Table
from xent.tensors import Tensor, finite_lists

Document = Mapping[str, Any]
LEADING: Final = ("class", "name", "row", "id", "support", "weight", "loss_mean", "loss_sum")
"""Columns that stand first; tensors come in the order of their size."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """How the loss was reduced. Sums and denominators add up over batches; means do not.

    Attributes:
        name: mean, sum or none.
        sum: nats; ``None`` where it is not finite.
        denominator: what the mean divides by.
        normaliser: weights, rows or elements.
    """

    name: str
    sum: float | None
    denominator: float | None
    normaliser: str


@dataclass(frozen=True, slots=True)
class Rows:
    """What became of the rows."""

    total: int
    evaluated: int
    ignored: int
    nonfinite: int
    infinite: int


@dataclass(frozen=True, slots=True)
class Distribution:
    """Losses per row, nats; quantiles within 1 %."""

    min: float | None
    max: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    buckets: Table


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far confidence and accuracy agree."""

    ece: float | None
    brier: float | None
    entropy_mean: float | None
    bins: Table


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Something about the batch that its sender should know."""

    code: str
    severity: str
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class Tracked:
    """What became of the batch in the history.

    Attributes:
        status: created, or replayed where the same batch was there.
        series: the name of the series it belongs to.
        revision: how often the batch was written.
        pending: whether labels are awaited.
    """

    status: str
    series: str
    revision: int
    pending: bool


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The model that made the logits."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One variant's answer. What was not asked for is ``None``.

    Attributes:
        variant: its name in routes.
        name: what a comparison calls it; else the variant.
        family: softmax or sigmoid.
        loss: reduced, nats; ``None`` where ``undefined`` says why, or where it is not finite.
        undefined: ``no_rows`` or ``zero_weight``.
        settings: those that were used.
        label_kind: how the labels were read.
        gradient: d loss / d logits, in their shape; like ``per_sample``, ``row_status`` and
            ``row_statistics`` an array of the library that the logits were of, and NumPy's where
            they were lists, columns or files.
        per_sample: what each row contributes, in the labels' shape.
        row_status: 0 evaluated, 1 ignored, 2 not finite, 3 infinite loss.
        per_class: a column per quantity.
        hardest: the rows of largest loss.
        track: what became of it in the history.
        model: which model of the service made the logits; ``None`` where they were sent.
        raw: the answer as it came, for whatever this class does not know.
    """

    variant: str
    name: str
    family: str
    loss: float | None
    undefined: str | None
    reduction: Reduction
    rows: Rows
    classes: int
    label_kind: str | None
    settings: Document
    diagnostics: tuple[Diagnostic, ...]
    gradient: Any = field(default=None, repr=False)
    per_sample: Any = field(default=None, repr=False)
    row_status: Any = field(default=None, repr=False)
    row_statistics: Mapping[str, Any] | None = field(default=None, repr=False)
    per_class: Table | None = None
    distribution: Distribution | None = field(default=None, repr=False)
    calibration: Calibration | None = field(default=None, repr=False)
    hardest: Table | None = None
    track: Tracked | None = None
    model: Evaluated | None = None
    raw: Document = field(default_factory=dict, repr=False)

    def __float__(self) -> float:
        """Return the loss, NaN where there is none."""
        return float("nan") if self.loss is None else self.loss

    def json(self) -> dict[str, Any]:
        """Return the answer as plain JSON: lists, and null for what is not finite."""
        document: dict[str, Any] = _plain(self.raw)
        return document

    def metrics(self, prefix: str = "") -> dict[str, float]:
        """Return the numbers that a tracker of experiments takes, by name; no ``None`` among them.

        ``loss``, ``rows`` and, where they were asked for, ``ece``, ``brier``, ``p50``, ``p90``,
        ``p99`` and ``class/<name>/loss_mean``, ``class/<name>/recall``.
        """
        found: dict[str, float | None] = {"loss": self.loss, "rows": float(self.rows.evaluated)}
        if self.calibration is not None:
            found |= {"ece": self.calibration.ece, "brier": self.calibration.brier}
        if self.distribution is not None:
            found |= {name: getattr(self.distribution, name) for name in ("p50", "p90", "p99")}
        for row in [] if self.per_class is None else self.per_class.rows():
            label = row.get("name", row["class"])
            found |= {f"class/{label}/{each}": row.get(each) for each in ("loss_mean", "recall")}
        return {f"{prefix}{name}": value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Compared:
    """What of one variant can be compared with another's.

    Attributes:
        normalised_entropy: 1 is as good as knowing the class frequencies only, 0 is perfect.
        prior_sum: the loss of the prior predictor, nats.
        undefined: why there is no normalised entropy.
        class_share: columns ``class``, ``name`` and ``share``.
    """

    name: str
    normalised_entropy: float | None
    prior_sum: float | None
    undefined: str | None
    class_share: Table


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several variants on one batch.

    Attributes:
        results: an answer each, in the order asked.
        variants: what can be compared, in the same order.
        pairs: a row for each two results: rank correlation of losses, cosine of gradients.
    """

    results: tuple[Answer, ...]
    variants: tuple[Compared, ...]
    pairs: Table
    raw: Document = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Answer:
        """Return the answer of that name."""
        for each in self.results:
            if each.name == name:
                return each
        raise KeyError(f"{name}; there are {', '.join(each.name for each in self.results)}")

    def json(self) -> dict[str, Any]:
        """Return the answer as plain JSON: lists, and null for what is not finite."""
        document: dict[str, Any] = _plain(self.raw)
        return document


@dataclass(frozen=True, slots=True)
class Variant:
    """What there is to know about one variant.

    Attributes:
        variant: its name in routes.
        settings: JSON schema of its settings, with defaults.
        example: settings, logits and labels that work.
    """

    variant: str
    families: tuple[str, ...]
    summary: str
    label_kinds: tuple[str, ...]
    formula: str
    gradient: str
    source: str
    settings: Document
    example: Document = field(repr=False)

    @classmethod
    def of(cls, document: Document) -> "Variant":
        """Return one entry of ``GET /variants``."""
        lists = {name: tuple(document[name]) for name in ("families", "label_kinds")}
        variant: Variant = _known(cls, {**document, **lists})
        return variant

    def document(self) -> Document:
        """Return it as the service says it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def answer_of(document: Document, back: GiveBack) -> Answer:
    """Return an answer document with tensors as leaves as an object.

    Args:
        document: of ``POST /loss/{variant}``, or one result of a comparison.
        back: makes arrays of the caller's library.

    Raises:
        Unreadable: what every answer has is not there.
    """
    try:
        answer = _scalars(document)
    except (KeyError, TypeError) as error:
        raise Unreadable(f"this is no answer of Xent: {error!r} is missing") from None
    statistics = document.get("row_statistics")
    return replace(
        answer,
        **{
            name: _array(document[name], back)
            for name in ("gradient", "per_sample", "row_status")
            if name in document
        },
        row_statistics=statistics
        and {name: _array(column, back) for name, column in statistics.items()},
        per_class=_table(document.get("per_class")),
        hardest=_table(document.get("hardest")),
        distribution=_with_table(Distribution, document.get("distribution"), "buckets"),
        calibration=_with_table(Calibration, document.get("calibration"), "bins"),
        track=_perhaps(Tracked, document.get("track")),
        model=_perhaps(Evaluated, document.get("model")),
    )


def comparison_of(document: Document, back: GiveBack) -> Comparison:
    """Return the answer document of a comparison as an object.

    Raises:
        Unreadable: what every answer has is not there.
    """
    try:
        return Comparison(
            tuple(answer_of(each, back) for each in document["results"]),
            tuple(
                Compared(
                    **{
                        name: each[name]
                        for name in ("name", "normalised_entropy", "prior_sum", "undefined")
                    },
                    class_share=Table(_columns(each["class_share"])),
                )
                for each in document["variants"]
            ),
            Table.of_rows(document["pairs"]),
            document,
        )
    except (KeyError, TypeError) as error:
        raise Unreadable(f"this is no comparison of Xent: {error!r} is missing") from None


def _scalars(document: Document) -> Answer:
    return Answer(
        **{
            name: document[name]
            for name in ("variant", "family", "loss", "undefined", "classes", "settings")
        },
        name=document.get("name", document["variant"]),
        label_kind=document["label_kind"],
        reduction=_known(Reduction, document["reduction"]),
        rows=_known(Rows, document["rows"]),
        diagnostics=tuple(_known(Diagnostic, each) for each in document["diagnostics"]),
        raw=document,
    )


def _known(kind: Any, document: Document) -> Any:  # noqa: ANN401  (one of the classes above)
    """Return an object of what it knows of a document: newer services may say more."""
    return kind(**{name: document[name] for name in kind.__dataclass_fields__})


def _array(value: object, back: GiveBack) -> Any:  # noqa: ANN401  (of the caller's library)
    return back(value) if isinstance(value, Tensor) else value


def _columns(document: Document) -> dict[str, object]:
    names = [*(name for name in LEADING if name in document), *sorted(document)]
    columns = {name: document[name] for name in names if document[name] is not None}
    return {
        name: column.numpy() if isinstance(column, Tensor) else column
        for name, column in columns.items()
    }


def _table(document: Document | None) -> Table | None:
    return None if document is None else Table(_columns(document))


def _with_table(kind: Any, document: Document | None, table: str) -> Any:  # noqa: ANN401
    if document is None:
        return None
    return _known(kind, {**document, table: Table(_columns(document[table]))})


def _perhaps(kind: Any, document: Document | None) -> Any:  # noqa: ANN401
    return None if document is None else _known(kind, document)


def _plain(value: Any) -> Any:  # noqa: ANN401  (any JSON)
    """Return a document with its tensors as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return finite_lists(value.numpy()) if isinstance(value, Tensor) else value
