"""The same questions, answered in this process: for whoever has PyTorch and no service.

Stands on ``xentcore``, which the extra ``server`` brings everything for.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from xent import arrow
from xent.answers import Answer, Comparison, answer_of, comparison_of
from xent.api import divided
from xent.arrays import GiveBack, give_back, logits_of, plain, tensor_of, to_torch
from xent.batches import PLURAL
from xent.errors import Fault, InvalidBatch, NotFound, Problem, Refused, missing
from xent.graphs import LabelKind, graph_query
from xent.specs import Spec
from xent.tensors import Tensor
from xent.variants import Losses

Parts = Mapping[str, Any]
RENAMED = {"k": "hardest"}
"""What the core calls otherwise."""

BESIDE = ("outputs", "class_names", "sample_ids", "sample_weights", "track", "progress")
"""What is no option of the core."""


class Local(Losses[Answer]):
    """Evaluates in this process: ``loss``, ``evaluate``, ``compare`` and ``onnx`` of a client.

    Args:
        device: auto, cpu, cuda or cuda:N.

    Raises:
        Missing: PyTorch is not installed.
    """

    def __init__(self, device: str = "auto") -> None:
        self._core = core()
        self._device = self._core.resolve_device(device)
        self._passes = self._core.load_passes() or self._core.EAGER

    @property
    def description(self) -> str:
        """Which device and which passes it computes with."""
        return f"{self._device}, {self._passes.name} passes"

    def evaluate(
        self,
        variant: str,
        logits: object,
        labels: object = None,
        *,
        settings: Mapping[str, Any] | None = None,
        **options: Any,  # noqa: ANN401  (as the client)
    ) -> Answer:
        """Return the loss of a batch under one variant."""
        spec = Spec(variant, **(settings or {}))
        evaluation, names, back = self._evaluated([spec], (logits, labels), options)
        with _said_as_by_the_service(self._core):
            (result,) = evaluation.result()
        return answer_of(_document(_answers().answer(result, **names)), back)

    def compare(
        self,
        logits: object,
        labels: object = None,
        *,
        variants: Sequence[str | Spec | Mapping[str, Any]],
        **options: Any,  # noqa: ANN401  (as the client)
    ) -> Comparison:
        """Return the losses of a batch under several variants, in one pass."""
        specs = [Spec.read(variant) for variant in variants]
        evaluation, names, back = self._evaluated(specs, (logits, labels), options, compare=True)
        with _said_as_by_the_service(self._core):
            results, compared = evaluation.result(), evaluation.comparison()
        said = _answers()
        parts = [{"name": each.name, **said.answer(each, **names)} for each in results]
        classes = names["class_names"]
        document = said.comparison(parts, results, compared, class_names=classes)
        return comparison_of(_document(document), back)

    def onnx(
        self,
        variant: str,
        *,
        classes: int,
        label_kind: LabelKind | None = None,
        ignore_index: int | None = -100,
        settings: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Return a variant as an ONNX model; as :meth:`xent.Client.onnx`."""
        from service.errors import ServiceError  # noqa: PLC0415  (with the core)
        from service.graphs.model import onnx_model  # noqa: PLC0415
        from service.schema.graphs import GraphQuery  # noqa: PLC0415
        from service.schema.variants import settings_model  # noqa: PLC0415

        given = graph_query(classes, label_kind, ignore_index, settings or {})
        with _said_as_by_the_service(self._core, below="/settings"):
            found = self._core.find_variant(variant)
            try:
                query = GraphQuery(found, settings_model(found), most_classes=sys.maxsize)
                return onnx_model(query.read(list(given.items())))
            except ServiceError as error:
                faults = tuple(Fault(each.pointer, each.message) for each in error.faults)
                raise Refused(422, str(error), faults=faults) from None

    def _loss(
        self, variant: str, logits: object, labels: object, given: Mapping[str, Any]
    ) -> Answer:
        settings, options = divided(given)
        return self.evaluate(variant, logits, labels, settings=settings, **options)

    def _evaluated(
        self,
        specs: Sequence[Spec],
        batch: tuple[object, object],
        options: Mapping[str, Any],
        *,
        compare: bool = False,
    ) -> tuple[Any, dict[str, Any], GiveBack]:
        """Return an evaluation that has seen all, what rows and classes are called, who gets it."""
        if "track" in options:
            raise InvalidBatch("there is no history here: track with a client of a service")
        with _said_as_by_the_service(self._core):
            keywords = {
                "outputs": tuple(options.get("outputs", ())),
                "options": self._options(options),
                "device": self._device,
                "compare": compare,
                "passes": self._passes,
            }
            bound = [self._spec(spec) for spec in specs]
            evaluation, ids, back = self._seen(bound, batch, options, keywords)
        given = options.get("sample_ids")
        names = {
            "class_names": plain(options.get("class_names")),
            "sample_ids": ids if given is None else plain(given),
        }
        return evaluation, names, back

    def _seen(
        self,
        specs: list[Any],
        batch: tuple[object, object],
        options: Mapping[str, Any],
        keywords: dict[str, Any],
    ) -> tuple[Any, list[Any] | None, GiveBack]:
        logits, labels = batch
        whole = _whole(logits, labels, options.get("sample_weights"))
        if whole is not None:
            tensors = _tensors(whole)
            evaluation = self._core.Evaluation.of(
                tensors["logits"],
                tensors["labels"],
                specs,
                sample_weights=tensors.get("sample_weights"),
                **keywords,
            )
            return evaluation, _ids(whole), give_back(whole["logits"])
        evaluation, ids, sent = self._core.Evaluation(specs, **keywords), [], 0
        progress = options.get("progress", lambda *_: None)
        for chunk in _chunks(logits):
            evaluation.update(**(tensors := _tensors(chunk)))
            ids += _ids(chunk) or []
            sent += tensors["logits"].nbytes
            progress(sent, None)
        return evaluation, ids or None, Tensor.numpy

    def _options(self, options: Mapping[str, Any]) -> Any:  # noqa: ANN401  (the core's)
        given = {RENAMED.get(name, name): value for name, value in options.items()}
        given = {name: value for name, value in given.items() if name not in BESIDE}
        if given.get("gradient_dtype") is not None:
            given["gradient_dtype"] = getattr(sys.modules["torch"], given["gradient_dtype"])
        try:
            return self._core.Options(**given)
        except TypeError as error:
            raise InvalidBatch(f"an option is unknown: {error}") from None

    def _spec(self, spec: Spec) -> Any:  # noqa: ANN401  (the core's)
        settings_type = self._core.find_variant(spec.variant).settings_type
        given = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in ((name, plain(each)) for name, each in spec.settings.items())
        }
        unknown = [name for name in given if name not in settings_type.__dataclass_fields__]
        if unknown:
            known = ", ".join(settings_type.__dataclass_fields__)
            raise InvalidBatch(f"{spec.variant} has no setting {unknown[0]}; known: {known}")
        return self._core.Spec(spec.variant, settings_type(**given) if given else None, spec.name)


def core() -> ModuleType:
    """Return the core.

    Raises:
        Missing: it, or PyTorch, is not installed.
    """
    try:
        import xentcore  # noqa: PLC0415  (optional)
    except ImportError:
        raise missing("xent[server]", "evaluating without a service") from None
    return xentcore


def _answers() -> ModuleType:
    from service import answers  # noqa: PLC0415  (with the core)

    return answers


def _whole(logits: object, labels: object, weights: object) -> Parts | None:
    """Return a batch that is all there; ``None`` for chunks."""
    if labels is not None:
        parts = {"logits": logits, "label": labels, "sample_weight": weights}
        return {name: value for name, value in parts.items() if value is not None}
    if isinstance(logits, Mapping) and not arrow.is_tabular(logits):
        return arrow.named(logits, 0)
    return None


def _chunks(source: object) -> Iterator[Parts]:
    chunks: Iterable[object] = [source] if arrow.is_tabular(source) else source  # type: ignore[assignment]
    if not isinstance(chunks, Iterable):
        raise InvalidBatch("labels are missing")
    for number, chunk in enumerate(chunks):
        if arrow.is_tabular(chunk):
            yield from arrow.Encoder({}).chunks(chunk)
        else:
            yield arrow.named(chunk, number)


def _tensors(parts: Parts) -> dict[str, Any]:
    readers = {"logits": logits_of}
    return {
        PLURAL[name]: to_torch(readers.get(name, tensor_of)(value, PLURAL[name]))
        for name, value in parts.items()
        if name in PLURAL
    }


def _ids(parts: Parts) -> list[Any] | None:
    """Return the names of the rows."""
    return None if "sample_id" not in parts else list(plain(parts["sample_id"]))  # type: ignore[call-overload]


def _document(document: Any) -> Any:  # noqa: ANN401  (any JSON, with tensors of PyTorch)
    """Return a document with the client's tensors as leaves."""
    if isinstance(document, Mapping):
        return {key: _document(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [_document(value) for value in document]
    if hasattr(document, "detach"):
        return tensor_of(document, "an answer")
    # As in JSON: what is not finite is nothing.
    return None if isinstance(document, float) and not math.isfinite(document) else document


@contextmanager
def _said_as_by_the_service(core: ModuleType, *, below: str = "") -> Iterator[None]:
    """Raise what the core raises as the service would have said it.

    Args:
        core: the core.
        below: what the core's pointers begin with, where it is no part of what was asked.
    """
    try:
        yield
    except core.XentError as error:
        kind: type[Problem] = NotFound if isinstance(error, core.UnknownVariant) else Refused
        status = 404 if kind is NotFound else 422
        said = str(error)
        raise kind(status, said, faults=(Fault(error.pointer.removeprefix(below), said),)) from None
