"""``GET /variants/{variant}/onnx``: a variant as an ONNX model, to be computed elsewhere."""

import hashlib
from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.openapi import graph_operation, problem_responses
from service.schema.graphs import GraphQuery
from xentcore import UnknownVariant, XentError

MEDIA_TYPE: Final = "application/octet-stream"


def router(queries: Mapping[str, GraphQuery]) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["variants"])

    # No coroutine: making a model takes milliseconds that the event loop should not spend.
    @routes.get(
        "/variants/{variant}/onnx",
        operation_id="variant_onnx",
        summary="One variant as an ONNX model",
        response_class=Response,
        responses=problem_responses(404, 413, 422),
        openapi_extra=graph_operation(),
    )
    def graph(variant: str, request: Request) -> Response:
        if variant not in queries:
            raise UnknownVariant(variant, queries)
        # Here: ONNX is loaded, and its memory held, only where somebody asks for a graph.
        from service.graphs.model import onnx_model  # noqa: PLC0415

        try:
            content = onnx_model(queries[variant].read(request.query_params.multi_items()))
        except XentError as error:
            error.pointer = error.pointer.removeprefix("/settings")
            raise
        return _file(content, f"{variant}.onnx", request.headers.get("if-none-match", ""))

    return routes


def _file(content: bytes, name: str, known: str) -> Response:
    """Return a file, or that it is still the one that is known."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if known.strip() == "*" or tag in (
        each.strip().removeprefix("W/") for each in known.split(",")
    ):
        return Response(status_code=304, headers=headers)
    headers["content-disposition"] = f'attachment; filename="{name}"'
    return Response(content, media_type=MEDIA_TYPE, headers=headers)
