"""``/projects``: what was evaluated."""

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from service.history import comparing, listing, timeseries
from service.history.questions import Question, Selection
from service.lookup import Lookup
from service.openapi import history_operation
from service.schema import history as schema
from service.schema.alerts import Comparison

_OF: Final = "/projects/{project}"


def router(lookup: Lookup) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["history"])

    @routes.get("/projects", **_described("projects", "All projects", schema.ProjectList))
    async def projects(request: Request) -> Response:
        return await lookup.projects(request)

    @routes.get(
        f"{_OF}/series",
        **_described("series", "What is comparable with itself", schema.SeriesList, Selection),
    )
    async def series(request: Request, project: str) -> Response:
        return await lookup.answer(request, project, Selection, listing.series)

    @routes.get(
        f"{_OF}/timeseries",
        **_described("timeseries", "A metric over time", schema.Timeseries, timeseries.Question),
    )
    async def over_time(request: Request, project: str) -> Response:
        return await lookup.answer(request, project, timeseries.Question, timeseries.answer)

    @routes.get(
        f"{_OF}/compare",
        **_described(
            "compare_history", "Baseline against candidate", Comparison, comparing.Question
        ),
    )
    async def compared(request: Request, project: str) -> Response:
        return await lookup.answer(request, project, comparing.Question, comparing.answer)

    @routes.get(
        f"{_OF}/options/{{dimension}}",
        **_described("options", "The values of a parameter", schema.Options, Selection),
    )
    async def options(request: Request, project: str, dimension: str) -> Response:
        return await lookup.answer(
            request, project, Selection, lambda view, asked: listing.options(view, asked, dimension)
        )

    return routes


def _described(
    name: str, summary: str, model: type[BaseModel], question: type[Question] = listing.Nothing
) -> dict[str, Any]:
    """Return what the framework cannot know of an operation that reads its query itself."""
    return {
        "operation_id": name,
        "summary": summary,
        "response_class": Response,
        **history_operation(question.parameters(), model),
    }
