"""Kept batches with labels that came late: decoded as they came, evaluated again, on a worker."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from service.answering import record_again
from service.errors import invalid
from service.history.entries import Correction, KeptBatch
from service.history.sums import Sums
from service.kernels import Kernels
from service.late_labels import Labels, of_all, of_some, rows_first, unlabelled, unpacked
from service.questions import Asked, Question
from service.recording import Recording, names_of
from service.schema.track import LabelsDocument
from service.wire.formats import SOURCES
from service.wire.gathered import gathered
from service.wire.payload import Body, Payload, extent
from service.wire.stream import Terms


@dataclass(frozen=True, slots=True)
class Late:
    """A request of labels: whose they are, and the labels."""

    document: LabelsDocument
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Relabelled:
    """A kept batch under the labels that came."""

    kept: KeptBatch
    sums: Sums
    labels: Labels

    @property
    def correction(self) -> Correction:
        """What is to be recorded of it."""
        return Correction(
            self.kept.batch_key,
            self.sums,
            self.labels.packed(),
            pending=not self.labels.complete,
            revision=self.kept.revision,
        )


class Relabelling:
    """Evaluates kept batches again.

    Args:
        questions: what can be asked, by path.
        terms: under which a body with certain fields is read.
        device: where to compute.
        kernels: which passes do it.
        threads: how many compute.
    """

    def __init__(
        self,
        questions: Mapping[str, Question],
        terms: Callable[[Question, int], Terms],
        *,
        device: torch.device,
        kernels: Kernels,
        threads: int,
    ) -> None:
        self._questions = questions
        self._terms = terms
        self._device = device
        self._kernels = kernels
        self._threads = threads

    def __call__(
        self, late: Late, kept: Sequence[KeptBatch], cancelled: Callable[[], bool]
    ) -> list[Relabelled]:
        """Return the batches under their labels, in their order; a comparison's in one pass.

        Raises:
            InvalidDocument, XentError: the labels do not fit.
            Cancelled: ``cancelled`` returned true.
        """
        torch.set_num_threads(self._threads)
        requests: dict[tuple[str, str, bytes, bytes | None], list[KeptBatch]] = {}
        for each in kept:
            key = (each.path, each.media_type, each.body, each.labels)
            requests.setdefault(key, []).append(each)
        found = {
            each.kept.batch_key: each
            for batches in requests.values()
            for each in self._request(late, batches, cancelled)
        }
        return [found[each.batch_key] for each in kept]

    def _request(
        self, late: Late, batches: Sequence[KeptBatch], cancelled: Callable[[], bool]
    ) -> list[Relabelled]:
        """Return the batches of one request."""
        first = batches[0]
        question = self._questions[first.path]
        payload = self._payload(first, question)
        asked = question.read(payload, per_class_limit=None)
        labels = _labels(late, payload, asked, first.labels)
        recording = record_again(
            question,
            replace(payload, labels=labels.values),
            asked,
            device=self._device,
            passes=self._kernels.passes,
            cancelled=cancelled,
        )
        return [Relabelled(each, _sums_of(each, recording), labels) for each in batches]

    def _payload(self, kept: KeptBatch, question: Question) -> Payload:
        # A copy of its own: tensors are views, and those of bytes could not be written to.
        body = Body(np.frombuffer(kept.body, np.uint8).copy())
        source = SOURCES[kept.media_type]
        terms = self._terms(question, len(body))
        if source.decode is not None:
            return source.decode(body, terms.limits, terms.fields, lambda _: None)
        if source.stream is None:
            raise AssertionError("a format is decoded as a whole or as a stream")
        return gathered(source.stream, body, terms)


def _labels(late: Late, payload: Payload, asked: Asked, before: bytes | None) -> Labels:
    """Return the labels of all rows, as far as they have come."""
    document = asked.document
    rows, _ = extent(payload.logits.shape, document.class_axis)
    names = late.document.sample_ids
    if names is None:
        return of_all(late.labels, rows)
    known = names_of(document)
    if known is None:
        raise invalid(
            "/sample_ids", "the batch was sent without sample_ids: send the labels of all rows"
        )
    if not rows_first(payload.logits.shape, document.class_axis):
        raise invalid(
            "/sample_ids", "rows are named where they are the first axis: send all labels"
        )
    if before is not None:
        return of_some(late.labels, names, known, unpacked(before))
    return of_some(late.labels, names, known, _sent(payload, asked, rows))


def _sent(payload: Payload, asked: Asked, rows: int) -> Labels:
    """Return the labels that came with their logits, if any did."""
    document = asked.document
    if payload.labels is None:
        values = unlabelled(payload.logits.shape, document, asked.specs)
        return Labels(values, torch.zeros(rows, dtype=torch.bool))
    values = of_all(payload.labels, rows).values
    if document.ignore_index is None:
        raise AssertionError("what marks rows was asked for when the batch came")
    marked = values.reshape(len(values), -1).eq(document.ignore_index).all(dim=1)
    return Labels(values, ~marked)


def _sums_of(kept: KeptBatch, recording: Recording) -> Sums:
    for draft in recording.drafts:
        if (draft.key.variant, draft.key.settings_hash) == (kept.variant, kept.settings_hash):
            return draft.sums
    family = " or ".join(sorted({draft.key.family for draft in recording.drafts}))
    raise invalid(
        "/labels",
        f"these labels make it a loss of the {family} family, and the batch was recorded as one of "
        "the other: send the logits again, and state label_kind",
    )
