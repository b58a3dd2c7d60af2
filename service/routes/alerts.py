"""``/projects/{project}/alerts``: rules, and how they stand."""

from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.changing import Changing
from service.history.alerts import Alerts
from service.history.rules import Rule
from service.openapi import change_operation, problem_responses
from service.schema.alerts import AlertAnswer, AlertList
from service.watch import Watch

_PATH: Final = "/projects/{project}/alerts"
_EXAMPLE: Final = {
    "name": "loss-of-2.1",
    "metric": "loss.mean",
    "selection": {"model": "digits", "model_version": "2.1", "variant": "sparse"},
    "kind": "reference",
    "reference": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-08T00:00:00Z"},
    "step": "1h",
}


def router(alerts: Alerts, watch: Watch, changing: Changing) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["alerts"])

    @routes.get(_PATH, **_described("alerts", "How alerts stand", 200, AlertList, 404, 422))
    async def listing(request: Request, project: str) -> Response:
        return await watch.listing(request, project)

    @routes.post(
        _PATH,
        **_described(
            *("alert_create", "Watch a metric", 201, AlertAnswer),
            *(400, 404, 408, 409, 413, 415, 422),
            extra=change_operation(Rule, _EXAMPLE),
        ),
    )
    async def create(request: Request, project: str) -> Response:
        return await changing.create(request, Rule, partial(alerts.create, project))

    @routes.delete(
        f"{_PATH}/{{name}}",
        **_described("alert_delete", "Forget an alert", 204, None, 404),
    )
    async def remove(request: Request, project: str, name: str) -> Response:
        return await changing.remove(request, partial(alerts.remove, project, name))

    return routes


def _described(
    name: str,
    summary: str,
    status: int,
    model: Any,  # noqa: ANN401  (a model, or none)
    *statuses: int,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "The answer." if model else "It is gone."}
    if model is not None:
        answer["model"] = model
    return {
        "operation_id": name,
        "summary": summary,
        "status_code": status,
        "response_class": Response,
        "responses": {status: answer, **problem_responses(401, 403, *statuses, 503)},
        "openapi_extra": extra or {"security": [{}, {"key": []}]},
    }
