"""``POST /loss/{variant}``: one operation per variant, made from the registry."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.exchange import Exchange
from service.openapi import loss_operation
from service.questions import LossQuestion
from xentcore import UnknownVariant, Variant


def router(exchange: Exchange, questions: Mapping[str, LossQuestion]) -> APIRouter:
    """Return the routes of all variants."""
    routes = APIRouter(tags=["loss"])

    def add(question: LossQuestion) -> None:
        variant = question.variant

        async def loss(request: Request) -> Response:
            return await exchange.answer(request, question)

        routes.add_api_route(
            question.path,
            loss,
            methods=["POST"],
            operation_id=f"loss_{variant.slug.replace('-', '_')}",
            summary=variant.summary[:1].upper() + variant.summary[1:],
            description=_description(variant),
            response_class=Response,
            openapi_extra=loss_operation(variant),
        )

    for question in questions.values():
        add(question)

    async def unknown(variant: str) -> Response:
        raise UnknownVariant(variant, questions)

    routes.add_api_route("/loss/{variant:path}", unknown, methods=["POST"], include_in_schema=False)
    return routes


def _description(variant: Variant[Any]) -> str:
    kinds = ", ".join(f"`{kind}`" for kind in variant.label_kinds)
    return (
        f"Loss: `{variant.formula}`\n\nGradient: `{variant.gradient}`\n\n"
        f"Labels: {kinds}\n\nSource: {variant.source}"
    )
