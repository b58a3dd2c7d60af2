"""``/v2/models/{model}``: what the protocol tells about one of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from service.openapi import inference_problems
from service.routes.kserve.pages import config_page, model_page
from service.routes.kserve.served import Served
from service.wire.kserve.model import Model

Page = dict[str, Any]


def router(served: Served) -> APIRouter:
    """Return the routes, with and without a version. They are never queued and need no key."""
    routes = APIRouter(prefix="/v2/models/{model}", tags=["inference protocol"])
    problems = inference_problems(404)

    async def metadata(model: Annotated[Model, Depends(served.model)]) -> Page:
        return model_page(model)

    async def ready(model: Annotated[Model, Depends(served.model)]) -> Page:
        served.require_ready()
        return {"name": model.name, "ready": True}

    async def config(model: Annotated[Model, Depends(served.model)]) -> Page:
        return config_page(model)

    async def statistics(model: Annotated[Model, Depends(served.model)]) -> Page:
        return served.statistics.of([model.name])

    for path, page, summary in (
        ("", metadata, "Inputs and outputs of a model"),
        ("/ready", ready, "Whether a model takes work"),
        ("/config", config, "Configuration of a model, with its parameters"),
        ("/stats", statistics, "Statistics of a model since the start"),
    ):
        for version in ("", "/versions/{version}"):
            routes.add_api_route(
                f"{version}{path}",
                page,
                operation_id=f"v2_model{path.replace('/', '_')}",
                summary=summary,
                include_in_schema=not version,
                responses=problems if page is not ready else inference_problems(404, 503),
            )
    return routes
