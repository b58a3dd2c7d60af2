"""From a decoded request to its answer: evaluate, answer, and say what is to be recorded of it."""

from collections.abc import Callable
from dataclasses import replace

import torch

from service.questions import Answer, Asked, Question
from service.recording import Names, Recording, recording_of
from service.wire.payload import Payload
from xentcore import Evaluation, Passes, XentError


def ask(
    question: Question,
    payload: Payload,
    *,
    per_class_limit: int | None,
    device: torch.device,
    passes: Passes,
    cancelled: Callable[[], bool],
) -> Answer:
    """Evaluate a decoded request.

    Raises:
        InvalidDocument: the document is not meaningful.
        XentError: the core refused; its pointer leads into the request.
    """
    try:
        asked = question.read(payload, per_class_limit=per_class_limit)
        evaluation = Evaluation.of(
            payload.logits,
            asked.labels(payload),
            asked.specs,
            sample_weights=payload.sample_weights,
            outputs=set(asked.document.outputs),
            options=asked.options,
            device=device,
            passes=passes,
            compare=question.compares,
            record=asked.record,
            cancelled=cancelled,
            await_rows=payload.await_rows,
        )
        return answered(question, evaluation, asked, cancelled=cancelled)
    except XentError as error:
        error.pointer = question.located(error)
        raise


def record_again(
    question: Question,
    payload: Payload,
    asked: Asked,
    *,
    device: torch.device,
    passes: Passes,
    cancelled: Callable[[], bool],
) -> Recording:
    """Return what is to be recorded of a tracked request whose labels have come.

    Raises:
        InvalidDocument, XentError: as :func:`ask` does.
    """
    try:
        evaluation = Evaluation.of(
            payload.logits,
            asked.labels(payload),
            asked.specs,
            sample_weights=payload.sample_weights,
            options=asked.options,
            device=device,
            passes=passes,
            record=asked.record,
            cancelled=cancelled,
        )
        return recording_of(evaluation, asked.document, cancelled=cancelled)
    except XentError as error:
        error.pointer = question.located(error)
        raise


def answered(
    question: Question,
    evaluation: Evaluation,
    asked: Asked,
    *,
    names: Names | None = None,
    cancelled: Callable[[], bool],
) -> Answer:
    """Return the answer of an evaluation that has seen all rows, and what is to be recorded of it.

    Args:
        question: what was asked.
        evaluation: of the batch.
        asked: the request.
        names: of the rows, where they came with them.
        cancelled: asked now and then; once it returns true, ``Cancelled`` is raised.
    """
    document = asked.document
    if names is not None:
        document = document.model_copy(update={"sample_ids": names.listed})
    answer = question.answer(evaluation, document)
    if asked.record is None:
        return answer
    recording = recording_of(evaluation, asked.document, names, cancelled=cancelled)
    return replace(answer, recording=recording)
