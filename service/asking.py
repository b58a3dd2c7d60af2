"""A question about a batch whose rows come part by part."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from service.answering import answered, ask
from service.errors import invalid
from service.history.replicates import Hashes, hash_ids
from service.questions import Answer, Asked, Question
from service.recording import Names, check_ids
from service.wire.payload import Payload
from service.wire.stream import Part
from xentcore import (
    Evaluation,
    InvalidSetting,
    Passes,
    XentError,
    evaluation_of,
    find_variant,
)

# Parts of fewer logits are put together: an evaluation of a row costs what one of hundreds does.
FEW: Final = 1 << 17
ID_LENGTH: Final = 256


class Asking:
    """Evaluates the parts of one batch; a :class:`service.wire.stream.Consumer`.

    Args:
        question: what is asked.
        per_class_limit: classes listed where the request does not say how many; ``None`` all.
        device: where to compute.
        passes: which implementation goes over matrices.
        cancelled: asked between blocks; once it returns true, ``Cancelled`` is raised.

    Attributes:
        compute_s: seconds spent evaluating.
    """

    def __init__(
        self,
        question: Question,
        *,
        per_class_limit: int | None,
        device: torch.device,
        passes: Passes,
        cancelled: Callable[[], bool],
    ) -> None:
        self._question = question
        self._per_class_limit = per_class_limit
        self._device = device
        self._passes = passes
        self._cancelled = cancelled
        self._asked: Asked | None = None
        self._evaluation: Evaluation | None = None
        self._answer: Answer | None = None
        self._empty: Part | None = None
        self._few: list[Part] = []
        self._few_logits = 0
        self._rows = 0
        self._ids: dict[int, str | int] | None = None
        self._hashes: list[Hashes] = []
        self.compute_s = 0.0

    def known(self, payload: Payload) -> bool:
        """Take a batch of which all but the logits is there.

        Raises:
            InvalidDocument, XentError: as :func:`service.answering.ask` does.
        """
        with self._evaluating():
            asked = self._read(payload)
            self._evaluation = evaluation_of(
                payload.logits.shape,
                asked.labels(payload),
                asked.specs,
                sample_weights=payload.sample_weights,
                **self._keywords(asked),
            )
        return self._kept(asked)

    def unknown(self, payload: Payload) -> bool:
        """Take a batch of which no row is known.

        Raises:
            InvalidDocument, XentError: as :func:`service.answering.ask` does, and for settings that
                only the whole batch could tell.
        """
        with self._evaluating():
            asked = self._read(payload)
            _refuse_counting(asked)
            self._evaluation = Evaluation(asked.specs, **self._keywords(asked))
        self._empty = Part(
            torch.empty_like(payload.logits, device="cpu"),
            torch.empty_like(asked.labels(payload), device="cpu"),
        )
        return self._kept(asked)

    def add(self, part: Part) -> None:
        """Evaluate more rows; few of them later, with those that follow.

        Raises:
            XentError: the core refused; its pointer leads into the request.
        """
        if part.logits.numel() < FEW:
            self._few.append(_copied(part))
            self._few_logits += part.logits.numel()
            if self._few_logits >= FEW:
                self._flush()
            return
        self._flush()
        self._update(part)

    def whole(self, payload: Payload) -> None:
        """Evaluate a batch that is all there.

        Raises:
            InvalidDocument, XentError: as :func:`service.answering.ask` does.
        """
        since_s = time.perf_counter()
        self._answer = ask(
            self._question,
            payload,
            per_class_limit=self._per_class_limit,
            device=self._device,
            passes=self._passes,
            cancelled=self._cancelled,
        )
        self.compute_s += time.perf_counter() - since_s

    def answer(self) -> Answer:
        """Return the answer, once all rows are there.

        Raises:
            XentError: the core refused; its pointer leads into the request.
        """
        if self._answer is None:
            self._answer = self._finished()
        return self._answer

    def _read(self, payload: Payload) -> Asked:
        self._asked = self._question.read(payload, per_class_limit=self._per_class_limit)
        return self._asked

    def _keywords(self, asked: Asked) -> dict[str, Any]:
        """Return what an evaluation is told whatever is known of its batch."""
        return {
            "outputs": set(asked.document.outputs),
            "options": asked.options,
            "device": self._device,
            "compare": self._question.compares,
            "record": asked.record,
            "cancelled": self._cancelled,
            "passes": self._passes,
        }

    def _flush(self) -> None:
        """Evaluate the parts that were few rows each as one."""
        if self._few:
            few, self._few, self._few_logits = self._few, [], 0
            self._update(_joined(few))

    def _update(self, part: Part) -> None:
        with self._evaluating():
            self._running.update(part.logits, part.labels, part.sample_weights)
        if part.sample_ids is not None:
            self._name(part.sample_ids)
            if self._asked is not None and self._asked.record:
                self._hashes.append(hash_ids(list(map(_short, part.sample_ids))))
        self._rows += len(part.logits)

    def _name(self, names: Sequence[str | int]) -> None:
        """Keep the names of those rows that may be listed: no more than there can be of them."""
        known = self._ids or {}
        self._ids = {
            row: known[row] if row in known else _short(names[row - self._rows])
            for row in self._running.hardest_rows()
        }

    def _kept(self, asked: Asked) -> bool:
        """Tell whether rows are needed until the end: for gradients, and to be compared."""
        return self._question.compares or "gradient" in asked.document.outputs

    def _finished(self) -> Answer:
        self._flush()
        if not self._rows and self._empty is not None:
            self._update(self._empty)
        asked: Asked = self._asked  # type: ignore[assignment]  # read with the first rows
        if self._empty is not None:
            check_ids(asked.document, self._rows)
        names = None
        if self._ids is not None:
            names = Names(self._ids, np.concatenate(self._hashes) if self._hashes else None)
        with self._evaluating():
            return answered(
                self._question, self._running, asked, names=names, cancelled=self._cancelled
            )

    @property
    def _running(self) -> Evaluation:
        if self._evaluation is None:
            raise AssertionError("rows come after what they are rows of")
        return self._evaluation

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Count the time, and say of a core error where in the request it leads."""
        since_s = time.perf_counter()
        try:
            yield
        except XentError as error:
            error.pointer = self._question.located(error)
            raise
        finally:
            self.compute_s += time.perf_counter() - since_s


def _refuse_counting(asked: Asked) -> None:
    """Refuse settings that the whole batch's class counts would have to tell."""
    for place, spec in enumerate(asked.specs):
        settings = spec.settings
        if settings is not None and find_variant(spec.variant).needs_class_counts(settings):
            error = InvalidSetting(
                "the class weights depend on the class counts of the whole batch, which a stream "
                "does not know: give class_counts, or send the batch as safetensors or JSON",
                pointer="/settings/class_counts",
            )
            error.spec = place
            raise error


def _copied(part: Part) -> Part:
    weights, names = part.sample_weights, part.sample_ids
    return Part(
        part.logits.clone(),
        part.labels.clone(),
        None if weights is None else weights.clone(),
        None if names is None else list(names),
    )


def _joined(parts: Sequence[Part]) -> Part:
    """Return parts of one stream, which have all the same columns, as one."""
    weights = [part.sample_weights for part in parts if part.sample_weights is not None]
    names = [part.sample_ids for part in parts if part.sample_ids is not None]
    return Part(
        _cat([part.logits for part in parts]),
        _cat([part.labels for part in parts]),
        _cat(weights) if weights else None,
        list(chain.from_iterable(names)) if names else None,
    )


def _cat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(tensors)) if len(tensors) > 1 else tensors[0]


def _short(name: str | int) -> str | int:
    """Return a name that an answer may repeat. Raises InvalidDocument where it is a long text."""
    if isinstance(name, str) and len(name) > ID_LENGTH:
        raise invalid("/sample_ids", f"a name has more than {ID_LENGTH} characters")
    return name
