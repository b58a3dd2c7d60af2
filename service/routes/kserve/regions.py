"""``/v2/systemsharedmemory``: memory that clients on the same host share with the service."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from service.keys import Keys
from service.openapi import inference_problems, json_body
from service.posted import document
from service.routes.kserve.served import Served
from service.schema.kserve import RegionRequest

STATUSES = (400, 401, 403)


def router(served: Served, keys: Keys, *, deadline_s: float) -> APIRouter:
    """Return the routes. They are never queued; who may evaluate may use them."""
    routes = APIRouter(prefix="/v2/systemsharedmemory", tags=["inference protocol"])
    regions, responses = served.regions, inference_problems(*STATUSES)

    @routes.post(
        "/region/{name}/register",
        operation_id="v2_region_register",
        summary="Register a region of shared memory",
        responses=inference_problems(*STATUSES, 408, 413, 422),
        openapi_extra={"requestBody": json_body("RegionRequest")},
    )
    async def register(request: Request, name: str) -> Response:
        keys.require(request.headers, "evaluate")
        wanted = await document(request, RegionRequest, deadline_s=deadline_s)
        regions.register(name, wanted.key, wanted.offset, wanted.byte_size)
        return JSONResponse({})

    @routes.post(
        "/region/{name}/unregister",
        operation_id="v2_region_unregister",
        summary="Forget a region",
        responses=responses,
    )
    async def unregister(request: Request, name: str) -> Response:
        keys.require(request.headers, "evaluate")
        regions.unregister(name)
        return JSONResponse({})

    @routes.post(
        "/unregister",
        operation_id="v2_regions_unregister",
        summary="Forget all regions",
        responses=responses,
    )
    async def unregister_all(request: Request) -> Response:
        keys.require(request.headers, "evaluate")
        regions.unregister(None)
        return JSONResponse({})

    @routes.get(
        "/region/{name}/status",
        operation_id="v2_region_status",
        summary="One region",
        responses=responses,
    )
    async def status(request: Request, name: str) -> list[dict[str, Any]]:
        keys.require(request.headers, "evaluate")
        return regions.status(name)

    @routes.get(
        "/status",
        operation_id="v2_regions_status",
        summary="All regions",
        responses=responses,
    )
    async def status_of_all(request: Request) -> list[dict[str, Any]]:
        keys.require(request.headers, "evaluate")
        return regions.status(None)

    return routes
