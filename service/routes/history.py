"""``/projects``: what was evaluated."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from service.changing import Changing
from service.history import (
    annotations,
    breakdown,
    classes,
    comparing,
    export,
    listing,
    timeseries,
)
from service.history.annotations import Note
from service.history.database import Database
from service.history.questions import Question, Referring, Selection
from service.history.rollups import View
from service.lookup import Lookup
from service.openapi import change_operation, export_operation, history_operation, problem_responses
from service.schema import history as schema
from service.schema.alerts import Comparison

OF: Final = "/projects/{project}"
_NOTE: Final = {"time": "2026-01-31T12:00:00Z", "text": "a new camera at line 3"}

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
    Asked(
        "annotations",
        "What happened when",
        Selection,
        annotations.answer,
        schema.AnnotationList,
    ),
)


def router(lookup: Lookup, changing: Changing, database: Database) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["history"])
    _add_questions(routes, lookup)
    _add_export(routes, lookup)
    _add_notes(routes, changing, database)
    return routes


def _add_questions(routes: APIRouter, lookup: Lookup) -> None:

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


def _add_export(routes: APIRouter, lookup: Lookup) -> None:
    async def exported(request: Request, project: str) -> Response:
        return await lookup.exported(request, project)

    routes.add_api_route(
        f"{OF}/export",
        exported,
        methods=["GET"],
        operation_id="export",
        summary="Everything that was recorded, a row for each batch",
        response_class=Response,
        **export_operation(export.Question.parameters(), export.MEDIA_TYPES.values()),
    )


def _add_notes(routes: APIRouter, changing: Changing, database: Database) -> None:
    path = f"{OF}/annotations"

    @routes.post(
        path,
        operation_id="note_create",
        summary="Say something of a moment",
        status_code=201,
        response_class=Response,
        responses={
            201: {"model": schema.AnnotationRow, "description": "The note."},
            **problem_responses(400, 401, 403, 404, 408, 413, 415, 422, 503),
        },
        openapi_extra=change_operation(Note, _NOTE),
    )
    async def write(request: Request, project: str) -> Response:
        return await changing.create(request, Note, partial(annotations.write, database, project))

    @routes.delete(
        f"{path}/{{annotation}}",
        operation_id="note_delete",
        summary="Forget a note",
        status_code=204,
        response_class=Response,
        responses={204: {"description": "It is gone."}, **problem_responses(401, 403, 404, 503)},
        openapi_extra={"security": [{}, {"key": []}]},
    )
    async def remove(request: Request, project: str, annotation: str) -> Response:
        return await changing.remove(
            request, partial(annotations.remove, database, project, annotation)
        )


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
