"""``POST /v2/models/{model}/infer``."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from service.exchange import Exchange
from service.openapi import inference_operation
from service.routes.kserve.served import Served
from service.telemetry import notes_of
from service.wire.kserve.model import Model

DESCRIPTION = (
    "Every variant is a model of version 1; `/versions/1` may stand behind its name. Inputs "
    "`logits`, `labels`, `sample_weights`, and settings that are lists; other settings and the "
    "fields of the request document are parameters. With `Inference-Header-Content-Length` binary "
    "data follows the JSON, in the order of the inputs; the content type plays no part. Bodies may "
    "be gzip or deflate, and so may answers, as `Accept-Encoding` asks."
)


def router(served: Served, exchange: Exchange) -> APIRouter:
    """Return the route, with and without a version."""
    routes = APIRouter(prefix="/v2", tags=["inference protocol"])

    async def infer(request: Request, model: Annotated[Model, Depends(served.model)]) -> Response:
        conversation = served.converse(model)
        begun_s = time.perf_counter()
        try:
            response = await exchange.answer(request, conversation, conversation.speak)
        except Exception:
            served.statistics.failed(model.name, time.perf_counter() - begun_s)
            raise
        timings_ms = notes_of(request.scope).timings_ms
        served.statistics.succeeded(model.name, time.perf_counter() - begun_s, timings_ms)
        response.headers.update(conversation.headers)
        return response

    for version in ("", "/versions/{version}"):
        routes.add_api_route(
            f"/models/{{model}}{version}/infer",
            infer,
            methods=["POST"],
            operation_id="v2_infer",
            summary="Evaluate one variant on one batch",
            description=DESCRIPTION,
            response_class=Response,
            include_in_schema=not version,
            openapi_extra=inference_operation(),
        )
    return routes
