"""``POST /labels``: the labels of batches whose logits were kept."""

from fastapi import APIRouter, Request

from service.labelling import Labelling
from service.openapi import labels_operation
from service.schema.answer import LabelsAnswer


def router(labelling: Labelling) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["history"])

    async def labels(request: Request) -> LabelsAnswer:
        return await labelling.answer(request)

    routes.add_api_route(
        "/labels",
        labels,
        methods=["POST"],
        operation_id="labels",
        summary="Send the labels of a batch that was evaluated without them",
        description="The batch is one that was tracked with `pending`. Its kept logits are "
        "evaluated with these labels, and the recorded sums replaced. Labels may be corrected in "
        "the same way for as long as the logits are kept.",
        openapi_extra=labels_operation(),
    )
    return routes
