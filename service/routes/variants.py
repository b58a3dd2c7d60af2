"""``GET /variants``: what can be evaluated, in words and as schemas."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from service.openapi import problem_responses
from service.schema.answer import VariantList, VariantPage
from service.schema.variants import SettingsModel
from xentcore import UnknownVariant, Variant


def router(
    variants: Mapping[str, Variant[Any]], settings: Mapping[str, type[SettingsModel]]
) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["variants"])
    pages = {slug: _page(variant, settings[slug]) for slug, variant in variants.items()}

    @routes.get("/variants", operation_id="variants", summary="All variants")
    async def index() -> VariantList:
        return VariantList(variants=list(pages.values()))

    @routes.get(
        "/variants/{variant}",
        operation_id="variant",
        summary="One variant",
        responses=problem_responses(404),
    )
    async def page(variant: str) -> VariantPage:
        if variant not in pages:
            raise UnknownVariant(variant, pages)
        return pages[variant]

    return routes


def _page(variant: Variant[Any], settings: type[SettingsModel]) -> VariantPage:
    return VariantPage(
        variant=variant.slug,
        families=list(variant.families),
        summary=variant.summary,
        label_kinds=list(variant.label_kinds),
        formula=variant.formula,
        gradient=variant.gradient,
        source=variant.source,
        settings=settings.model_json_schema(),
        example=dict(variant.example),
    )
