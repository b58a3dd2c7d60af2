"""``/v2``, its health, and what it tells about all models."""

from typing import Any

from fastapi import APIRouter

from service.openapi import inference_problems
from service.routes.kserve.pages import index_page, service_page
from service.routes.kserve.served import Served

Page = dict[str, Any]


def router(served: Served) -> APIRouter:
    """Return the routes. They are never queued and need no key."""
    routes = APIRouter(prefix="/v2", tags=["inference protocol"])

    @routes.get("", operation_id="v2", summary="The service and its extensions")
    async def service() -> Page:
        return service_page(shared_memory=served.regions.enabled)

    @routes.get("/health/live", operation_id="v2_live", summary="Whether the process answers")
    async def live() -> Page:
        return {"live": True}

    @routes.get(
        "/health/ready",
        operation_id="v2_ready",
        summary="Whether work is taken",
        responses=inference_problems(503),
    )
    async def ready() -> Page:
        served.require_ready()
        return {"ready": True}

    @routes.post("/repository/index", operation_id="v2_index", summary="All models")
    async def index() -> list[Page]:
        return index_page(served.models, served.refusal())

    @routes.get("/models/stats", operation_id="v2_stats", summary="Statistics of all models")
    async def statistics() -> Page:
        return served.statistics.of(served.models)

    return routes
