"""``POST /compare``: several variants on one batch, in one pass."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.exchange import Exchange
from service.openapi import compare_operation
from service.questions import CompareQuestion


def router(exchange: Exchange, question: CompareQuestion) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["compare"])

    async def compare(request: Request) -> Response:
        return await exchange.answer(request, question)

    routes.add_api_route(
        "/compare",
        compare,
        methods=["POST"],
        operation_id="compare",
        summary="Evaluate several variants on one batch",
        description="The logits are read once. Losses of different variants have different "
        "units, and the answer says so for each pair. What can be compared stands beside it: the "
        "loss over that of a predictor that knows the class frequencies only, each class's share "
        "of the loss, the rank correlation of the rows' losses, and the cosine of the gradients.",
        response_class=Response,
        openapi_extra=compare_operation(),
    )
    return routes
