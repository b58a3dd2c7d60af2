"""``/health/*``: whether the process lives, and whether it takes work."""

from fastapi import APIRouter

from service.engine import Engine
from service.errors import Unavailable
from service.history.recorder import Recorder
from service.kernels import Kernels
from service.openapi import problem_responses
from service.schema.answer import Live, Ready


def router(engine: Engine, kernels: Kernels, recorder: Recorder, device: str) -> APIRouter:
    """Return the routes. They are never queued and need no key."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health/live", operation_id="live", summary="Whether the process answers")
    async def live() -> Live:
        return Live(live=True)

    @routes.get(
        "/health/ready",
        operation_id="ready",
        summary="Whether work is taken",
        responses=problem_responses(503),
    )
    async def ready() -> Ready:
        refusal = engine.refusal()
        if refusal is None and not recorder.opened:
            refusal = "the history's database has not been opened"
        if refusal is not None:
            raise Unavailable(refusal)
        return Ready(ready=True, device=device, kernels=kernels.state)

    return routes
