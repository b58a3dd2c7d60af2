"""``/projects``: what was evaluated."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from service.history import breakdown, classes, comparing, listing, timeseries
from service.history.questions import Question, Referring, Selection
from service.history.rollups import View
from service.lookup import Lookup
from service.openapi import history_operation
from service.schema import history as schema
from service.schema.alerts import Comparison

OF: Final = "/projects/{project}"

Q = TypeVar("Q", bound=Question)


@dataclass(frozen=True, slots=True)
class Asked(Generic[Q]):
    """A question about a project: its name in the path, what it takes, and who answers it."""

    name: str
    summary: str
    question: type[Q]
    ask: Callable[[View, Q], dict[str, Any]]
    answer: type[BaseModel]


QUESTIONS: Final[tuple[Asked[Any], ...]] = (
    Asked("series", "What is comparable with itself", Selection, listing.series, schema.SeriesList),
    Asked(
        "timeseries",
        "A metric over time",
        timeseries.Question,
        timeseries.answer,
        schema.Timeseries,
    ),
    Asked(
        "classes",
        "Classes beside each other, and over time",
        classes.Question,
        classes.answer,
        schema.ClassTable,
    ),
    Asked(
        "hardest",
        "The rows of largest loss",
        breakdown.HardestQuestion,
        breakdown.hardest,
        schema.HardestRows,
    ),
    Asked(
        "calibration",
        "How far confidence and accuracy agree",
        Referring,
        breakdown.calibration,
        schema.CalibrationOverTime,
    ),
    Asked(
        "histogram",
        "How the losses of rows spread",
        Referring,
        breakdown.histogram,
        schema.HistogramOverTime,
    ),
)


def router(lookup: Lookup) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["history"])

    async def projects(request: Request) -> Response:
        return await lookup.projects(request)

    _add(routes, "/projects", projects, ("projects", "All projects"), schema.ProjectList)
    for asked in QUESTIONS:
        _add(
            routes,
            f"{OF}/{asked.name}",
            _endpoint(lookup, asked),
            (asked.name, asked.summary),
            asked.answer,
            asked.question,
        )

    compared = Asked(
        "compare_history",  # `compare` compares variants on one batch
        "Baseline against candidate",
        comparing.Question,
        comparing.answer,
        Comparison,
    )
    _add(
        routes,
        f"{OF}/compare",
        _endpoint(lookup, compared),
        (compared.name, compared.summary),
        compared.answer,
        compared.question,
    )

    async def options(request: Request, project: str, dimension: str) -> Response:
        return await lookup.answer(
            request, project, Selection, lambda view, asked: listing.options(view, asked, dimension)
        )

    described = ("options", "The values that a parameter can have")
    _add(routes, f"{OF}/options/{{dimension}}", options, described, schema.Options, Selection)
    return routes


def _endpoint(lookup: Lookup, asked: Asked[Any]) -> Callable[..., Any]:
    async def endpoint(request: Request, project: str) -> Response:
        return await lookup.answer(request, project, asked.question, asked.ask)

    return endpoint


def _add(
    routes: APIRouter,
    path: str,
    endpoint: Callable[..., Any],
    described: tuple[str, str],
    answer: type[BaseModel],
    question: type[Question] = listing.Nothing,
) -> None:
    name, summary = described
    routes.add_api_route(
        path,
        endpoint,
        methods=["GET"],
        operation_id=name,
        summary=summary,
        response_class=Response,
        **history_operation(question.parameters(), answer),
    )
