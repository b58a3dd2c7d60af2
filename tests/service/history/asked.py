"""Asking in tests: a question as a URL says it, answered from the database."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.history import timeseries
from service.history.database import Database
from service.history.questions import Question, read
from service.history.rollups import View, view
from tests.service.history.histories import Batch, Rows

Q = TypeVar("Q", bound=Question)
Row = dict[str, Any]


def ask(
    database: Database,
    model: type[Q],
    answer: Callable[[View, Q], dict[str, Any]],
    query: Iterable[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Return the answer to a question about project ``p``."""
    question = read(model, query)
    with view(database, "p") as seen:
        return answer(seen, question)


def timeline(database: Database, **query: str) -> dict[str, Any]:
    """Return a timeseries; ``from_`` and ``class_`` are asked without the underscore."""
    pairs = [(name.rstrip("_").replace("tag_", "tag."), each) for name, each in query.items()]
    return ask(database, timeseries.Question, timeseries.answer, pairs)


def rows_of(batches: Sequence[Batch]) -> Rows:
    """Return the rows of several batches as if they had come together."""

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(each.rows, name) for each in batches])

    names = ("loss", "weight", "label", "prediction", "confidence", "norm")
    return Rows(
        **{name: joined(name) for name in names},
        ignored=sum(each.rows.ignored for each in batches),
        nonfinite=sum(each.rows.nonfinite for each in batches),
    )
