"""What can be asked of the service. Each operation says what is sent and how it is read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Unpack
from urllib.parse import quote

from xent import safetensors
from xent.answers import Answer, Comparison, Variant, answer_of, comparison_of
from xent.arrays import plain
from xent.batches import Batch, Features
from xent.bodies import Body
from xent.calls import JSON, Call, Reply
from xent.errors import InvalidBatch
from xent.graphs import LabelKind, graph_query
from xent.operations import operation
from xent.specs import Spec
from xent.tables import Table
from xent.variants import OPTIONS, Options

ACCEPT: Final = f"{safetensors.MEDIA_TYPE}, {JSON};q=0.5"
APART: Final = ("sample_weights", "track", "progress")
"""What is given like an option and does not travel as one."""


class Api:
    """The operations on batches."""

    @operation
    def evaluate(
        self,
        variant: str,
        logits: object,
        labels: object = None,
        *,
        settings: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> Call[Answer]:
        """Return the loss of a batch under a variant whose name is known only now.

        The same as ``loss``, but for the settings, which are a mapping.
        """
        path = loss_path(variant)
        return evaluation(path, Batch(logits, labels), settings or {}, options)

    @operation
    def compare(
        self,
        logits: object,
        labels: object = None,
        *,
        variants: Sequence[str | Spec | Mapping[str, Any]],
        **options: Unpack[Options],
    ) -> Call[Comparison]:
        """Return the losses of a batch under several variants, in one pass.

        Args:
            logits: as for ``loss``.
            labels: as for ``loss``.
            variants: names, or ``Spec("focal", name="soft", gamma=0.5)``.
            options: as for ``loss``.
        """
        return comparing("/compare", Batch(logits, labels), variants, options)

    @operation
    def variants(self) -> Call[list[Variant]]:
        """Return all variants that the service knows, with formula and settings."""
        return Call(
            "GET",
            "/variants",
            lambda reply: [Variant.of(each) for each in reply.json()["variants"]],
        )

    @operation
    def variant(self, name: str) -> Call[Variant]:
        """Return what there is to know about one variant."""
        return Call("GET", f"/variants/{_quoted(name)}", lambda reply: Variant.of(reply.json()))

    @operation
    def onnx(
        self,
        variant: str,
        *,
        classes: int,
        label_kind: LabelKind | None = None,
        ignore_index: int | None = -100,
        settings: Mapping[str, Any] | None = None,
    ) -> Call[bytes]:
        """Return a variant as an ONNX model, so that others compute the same number.

        Its inputs are ``logits`` and ``labels``, its outputs ``loss`` of each row, ``gradient``
        (of the mean), ``mean``, ``sum`` and ``denominator``.

        Args:
            variant: its name in routes.
            classes: columns of the logits.
            label_kind: what labels the model takes; ``None`` for the first that the variant names.
            ignore_index: label of rows to leave out; ``None`` leaves none out.
            settings: the variant's.

        Returns:
            the bytes of the file.
        """
        return Call(
            "GET",
            f"/variants/{_quoted(variant)}/onnx",
            lambda reply: bytes(reply.body),
            query=graph_query(classes, label_kind, ignore_index, settings or {}),
            accept="application/octet-stream",
        )

    @operation
    def labels(  # noqa: PLR0913  (what names a batch)
        self,
        project: str,
        model: str,
        model_version: str,
        batch_id: str,
        labels: object,
        *,
        variant: str | None = None,
        sample_ids: Sequence[str | int] | None = None,
    ) -> Call[Table]:
        """Hand in labels of a batch that was tracked without, or better ones.

        Args:
            project: what the batch belongs to.
            model: of whom it is.
            model_version: and of which version.
            batch_id: its name.
            labels: of the whole batch, in its order, or of the rows that ``sample_ids`` name.
            variant: the one it was evaluated under; ``None`` all that it was.
            sample_ids: the rows that the labels are of; ``None`` all.

        Returns:
            a row for each series that the batch is in: its status, revision, rows and loss.
        """
        document: dict[str, object] = {
            "project": project,
            "model": model,
            "model_version": model_version,
            "batch_id": batch_id,
            "labels": plain(labels),
        }
        if variant is not None:
            document["variant"] = variant
        if sample_ids is not None:
            document["sample_ids"] = plain(sample_ids)
        return Call(
            "POST",
            "/labels",
            lambda reply: Table.of_rows(reply.json()["batches"]),
            body=Body.of(JSON, [json.dumps(document).encode()]),
        )

    @operation
    def projects(self) -> Call[Table]:
        """Return the projects of the history, a row each."""
        return Call("GET", "/projects", lambda reply: Table.of_rows(reply.json()["projects"]))

    @operation
    def ready(self) -> Call[dict[str, Any]]:
        """Return what the service works with; raises ``Unavailable`` if it takes no work."""
        return Call("GET", "/health/ready", Reply.json)

    @operation
    def openapi(self) -> Call[dict[str, Any]]:
        """Return the service's own OpenAPI document, which tells its version."""
        return Call("GET", "/openapi.json", Reply.json)


def loss_path(variant: str) -> str:
    """Return where a variant is asked."""
    return f"/loss/{_quoted(variant)}"


def evaluation(
    path: str, batch: Batch | Features, settings: Mapping[str, Any], options: Mapping[str, Any]
) -> Call[Answer]:
    """Return the call that evaluates one variant."""
    said = {"settings": plain(dict(settings))} if settings else {}
    return _posted(path, batch, said, options, _answer)


def comparing(
    path: str,
    batch: Batch | Features,
    variants: Sequence[str | Spec | Mapping[str, Any]],
    options: Mapping[str, Any],
) -> Call[Comparison]:
    """Return the call that evaluates several variants."""
    specs = [Spec.read(variant).document() for variant in variants]
    return _posted(path, batch, {"variants": specs}, options, _comparison)


def divided(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings and the options among the keywords of ``loss``."""
    known = {*OPTIONS, *APART}
    settings = {name: value for name, value in given.items() if name not in known}
    return settings, {name: value for name, value in given.items() if name in known}


def _posted(
    path: str,
    batch: Batch | Features,
    said: Mapping[str, object],
    options: Mapping[str, Any],
    read: Any,  # noqa: ANN401  (a reader of answers, and who gets their arrays)
) -> Call[Any]:
    unknown = [name for name in options if name not in {*OPTIONS, *APART}]
    if unknown:
        raise InvalidBatch(f"{unknown[0]} is no option; known: {', '.join((*OPTIONS, *APART))}")
    document = {**said, **{name: plain(options[name]) for name in OPTIONS if name in options}}
    track = options.get("track")
    if track is not None:
        document["track"] = track.document()
    given = replace(
        batch,
        sample_weights=options.get("sample_weights"),
        unlabelled=track is not None and track.pending,
    )
    body, back = given.body(document)
    progress = options.get("progress")
    return Call(
        "POST",
        path,
        partial(read, back=back),
        body=body if progress is None else body.reporting(progress),
        accept=ACCEPT,
    )


def _answer(reply: Reply, back: Any) -> Answer:  # noqa: ANN401
    return answer_of(reply.document(), back)


def _comparison(reply: Reply, back: Any) -> Comparison:  # noqa: ANN401
    return comparison_of(reply.document(), back)


def _quoted(name: str) -> str:
    return quote(name, safe="")
