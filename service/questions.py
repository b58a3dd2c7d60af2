"""What is asked of the core: one variant on a batch, or several on the same one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from torch import Tensor

from service.answers import answer, comparison
from service.errors import Fault, InvalidDocument, invalid
from service.history.sums import HARDEST
from service.late_labels import unlabelled
from service.recording import Recording, check_ids, check_track, record_asked
from service.schema.document import Document
from service.schema.validation import validate
from service.schema.variants import SettingsModel, settings_from
from service.wire.payload import Payload, extent
from xentcore import (
    Evaluation,
    Options,
    Record,
    Result,
    Spec,
    UnknownVariant,
    Variant,
    XentError,
    find_variant,
)

CLASS_WEIGHTS = "class_weights"


@dataclass(frozen=True, slots=True)
class Asked:
    """A validated request, ready for the core."""

    specs: tuple[Spec, ...]
    options: Options
    document: Document
    record: Record | None

    def labels(self, payload: Payload) -> Tensor:
        """Return the labels of a batch, or what stands for them until they come."""
        if payload.labels is None:
            return unlabelled(payload.logits.shape, self.document, self.specs)
        return payload.labels


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: the results, and the document made of them for the wire to write.

    Attributes:
        parts: the part of the document that each result has.
        recording: what is to be recorded before it is sent; ``None`` for nothing.
    """

    results: Sequence[Result]
    document: dict[str, object]
    parts: Sequence[dict[str, object]]
    recording: Recording | None = None


class Question(Protocol):
    """A kind of request: which document it has, and how its answer is put together."""

    @property
    def path(self) -> str:
        """Where it is asked."""
        ...

    @property
    def model(self) -> type[Document]:
        """The document beside the tensors."""
        ...

    @property
    def compares(self) -> bool:
        """Whether its variants are compared with each other."""
        ...

    def read(self, payload: Payload, *, per_class_limit: int | None) -> Asked:
        """Validate the document. Raises InvalidDocument, and what the core raises."""
        ...

    def located(self, error: XentError) -> str:
        """Return the JSON pointer of what a core error is about."""
        ...

    def answer(self, evaluation: Evaluation, document: Document) -> Answer:
        """Return what an evaluation answers to the request. Raises what the core raises."""
        ...


@dataclass(frozen=True, slots=True)
class LossQuestion:
    """One variant on one batch."""

    compares: ClassVar[bool] = False
    variant: Variant[Any]
    model: type[Document]

    @property
    def path(self) -> str:
        """Where it is asked."""
        return f"/loss/{self.variant.slug}"

    def read(self, payload: Payload, *, per_class_limit: int | None) -> Asked:
        """Validate the document. Raises InvalidDocument, and what the core raises."""
        raw = _with_settings(payload.document)
        weights = _class_weights(payload)
        if weights is not None:
            if not _takes_weights(self.variant):
                raise invalid(f"/{CLASS_WEIGHTS}", f"{self.variant.slug} takes no class weights")
            settings = raw["settings"]
            if isinstance(settings, Mapping):
                if CLASS_WEIGHTS in settings:
                    raise invalid(f"/settings/{CLASS_WEIGHTS}", "is given twice: also as a tensor")
                raw["settings"] = {**settings, CLASS_WEIGHTS: weights}
        document = validate(self.model, raw)
        _check_names(document, payload)
        spec = Spec(self.variant.slug, _settings(document, self.variant))
        return _asked((spec,), document, payload, per_class_limit)

    def located(self, error: XentError) -> str:
        """Return the JSON pointer of what a core error is about."""
        return error.pointer

    def answer(self, evaluation: Evaluation, document: Document) -> Answer:
        """Return what an evaluation answers to the request. Raises what the core raises."""
        (result,) = results = _results(evaluation, document)
        names, ids = document.class_names, document.sample_ids
        made = answer(result, class_names=names, sample_ids=ids)
        return Answer(results, made, [made])


@dataclass(frozen=True, slots=True)
class CompareQuestion:
    """Several variants on one batch, in one pass."""

    compares: ClassVar[bool] = True
    path: ClassVar[str] = "/compare"
    model: type[Document]

    def read(self, payload: Payload, *, per_class_limit: int | None) -> Asked:
        """Validate the document. Raises InvalidDocument, and what the core raises."""
        raw = dict(payload.document)
        entries = raw.get("variants")
        if isinstance(entries, list):
            weights = _class_weights(payload)
            raw["variants"] = [_item(index, entry, weights) for index, entry in enumerate(entries)]
        document = validate(self.model, raw)
        _check_names(document, payload)
        specs = tuple(
            self._spec(index, item)
            for index, item in enumerate(document.variants)  # type: ignore[attr-defined]
        )
        return _asked(specs, document, payload, per_class_limit)

    def _spec(self, index: int, item: Any) -> Spec:  # noqa: ANN401  (a model made from the registry)
        try:
            return Spec(item.variant, _settings(item, find_variant(item.variant)), item.name)
        except XentError as error:
            error.spec = index
            raise

    def located(self, error: XentError) -> str:
        """Return the JSON pointer of what a core error is about."""
        return error.pointer if error.spec is None else f"/variants/{error.spec}{error.pointer}"

    def answer(self, evaluation: Evaluation, document: Document) -> Answer:
        """Return what an evaluation answers to the request. Raises what the core raises."""
        results, compared = _results(evaluation, document), evaluation.comparison()
        names, ids = document.class_names, document.sample_ids
        parts = [
            {"name": each.name, **answer(each, class_names=names, sample_ids=ids)}
            for each in results
        ]
        made = comparison(parts, results, compared, class_names=names)
        return Answer(results, made, parts)


class Rephrased:
    """A question asked in other words: what is not said anew stays as it is.

    Args:
        question: the same as it is asked of ``/loss`` or ``/compare``.
    """

    def __init__(self, question: LossQuestion | CompareQuestion) -> None:
        self._question = question

    @property
    def path(self) -> str:
        """Where the same is asked in the usual words."""
        return self._question.path

    @property
    def compares(self) -> bool:
        """Whether its variants are compared with each other."""
        return self._question.compares

    @property
    def model(self) -> type[Document]:
        """The document beside the tensors."""
        return self._question.model

    def read(self, payload: Payload, *, per_class_limit: int | None) -> Asked:
        """Validate the document. Raises InvalidDocument, and what the core raises."""
        return self._question.read(payload, per_class_limit=per_class_limit)

    def located(self, error: XentError) -> str:
        """Return the JSON pointer of what a core error is about."""
        return self._question.located(error)

    def answer(self, evaluation: Evaluation, document: Document) -> Answer:
        """Return what an evaluation answers to the request. Raises what the core raises."""
        return self._question.answer(evaluation, document)


def _asked(
    specs: tuple[Spec, ...], document: Document, payload: Payload, per_class_limit: int | None
) -> Asked:
    options = document.options(per_class_limit=per_class_limit)
    coming = payload.coming
    record = record_asked(document, named=coming is not None and coming.named)
    if record is not None:
        options = replace(options, hardest=max(options.hardest, HARDEST))
    return Asked(specs, options, document, record)


def _results(evaluation: Evaluation, document: Document) -> tuple[Result, ...]:
    """Return the results, with as many of the hardest rows as were asked for."""
    results = evaluation.result()
    if document.track is None:
        return results
    return tuple(
        each if each.hardest is None else replace(each, hardest=each.hardest[: document.k])
        for each in results
    )


def _with_settings(item: Mapping[str, object]) -> dict[str, object]:
    # An absent object is an empty one, so that what is missing in it is named by its own pointer.
    return {"settings": {}, **item}


def _settings(document: Any, variant: Variant[Any]) -> Any:  # noqa: ANN401  (made from the registry)
    model: SettingsModel = document.settings
    return settings_from(variant, model)


def _item(index: int, entry: object, weights: list[float] | None) -> object:
    """Return one entry of a comparison as it is validated: known, with settings, with weights."""
    if not isinstance(entry, Mapping):
        return entry
    item = _with_settings(entry)
    slug = item.get("variant")
    if not isinstance(slug, str):
        return item
    try:
        variant = find_variant(slug)
    except UnknownVariant as error:
        error.spec = index
        raise
    settings = item["settings"]
    if weights is not None and isinstance(settings, Mapping) and _takes_weights(variant):
        item["settings"] = {CLASS_WEIGHTS: weights, **settings}
    return item


def _takes_weights(variant: Variant[Any]) -> bool:
    return CLASS_WEIGHTS in variant.settings_type.__dataclass_fields__


def _class_weights(payload: Payload) -> list[float] | None:
    weights = payload.class_weights
    if weights is None:
        return None
    if weights.ndim != 1 or not weights.is_floating_point():
        raise invalid(f"/{CLASS_WEIGHTS}", "must be one floating-point number per class")
    return weights.double().tolist()


def _check_names(document: Document, payload: Payload) -> None:
    """Check that names and ids are as many as what they name, and what is tracked."""
    rows, classes = extent(payload.logits.shape, document.class_axis)
    coming = payload.coming
    check_track(document, classes=classes, named=coming is not None and coming.named)
    if coming is None:
        check_ids(document, rows)
    faults = [
        Fault(f"/{field}", f"has {len(names)} entries for {count} {what}: give one each")
        for field, names, count, what in (
            ("class_names", document.class_names, classes, "classes"),
            ("sample_ids", document.sample_ids, rows, "rows"),
        )
        if names is not None and len(names) != count
    ]
    if faults:
        raise InvalidDocument(faults)
