"""``create_app(settings)``: the only place where the parts are joined."""

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from service import openapi
from service.dashboard.parts import Parts
from service.engine import Capacity, Engine
from service.errors import ServiceError
from service.exchange import Exchange
from service.kernels import Kernels
from service.keys import Keys
from service.labelling import Labelling
from service.metrics import Metrics
from service.models.shelf import Shelf
from service.problems import problem_response
from service.questions import CompareQuestion, LossQuestion, Question
from service.relabelling import Relabelling
from service.remembering import Remembering
from service.routes import (
    alerts,
    compare,
    dashboard,
    docs,
    graphs,
    health,
    history,
    labels,
    loss,
    metrics,
    variants,
)
from service.routes import models as served_models
from service.routes.kserve import inference, models, protocol, regions
from service.routes.kserve.served import Served
from service.schema.document import Document
from service.schema.graphs import GraphQuery
from service.schema.kserve import inference_models
from service.schema.models import compare_model, loss_model, settings_models
from service.settings import Settings
from service.shortcut import Shortcut
from service.telemetry import Telemetry, make_logger, notes_of
from service.terms import terms_of
from service.version import VERSION
from service.warmup import warm_up
from service.wire.kserve.regions import Regions
from xentcore import VARIANTS, XentError, resolve_device

EXPECTED: Final = (ServiceError, XentError, HTTPException, MemoryError)


def create_app(settings: Settings) -> FastAPI:
    """Return the application. ``app.state.engine`` is what a server drains.

    Raises:
        xentcore.DeviceUnavailable: the device of the settings is not there.
    """
    device = resolve_device(settings.device)
    capacity = Capacity(
        settings.workers, settings.queue, settings.evaluation_deadline_s, settings.worker_grace_s
    )
    warm = partial(warm_up, threads=settings.threads, device=device)
    engine = Engine(capacity, warm_up=lambda: warm(kernels.passes))
    log = make_logger(settings)
    kernels = Kernels(
        settings.kernels_dir,
        wanted=settings.kernels,
        warm_up=lambda passes: engine.beside(partial(warm, passes)),
        log=log,
    )
    counted = Metrics(engine, kernels, workers=settings.workers, device=device)
    keys = Keys(settings.api_keys)
    remembering = Remembering(settings, keys, counted, log, answering=lambda: engine.admitted)
    exchange = Exchange(
        settings,
        engine=engine,
        kernels=kernels,
        keys=keys,
        metrics=counted,
        tracking=remembering.tracking,
        device=device,
    )

    of_settings = settings_models(VARIANTS)
    of_losses = {slug: loss_model(each, of_settings[slug]) for slug, each in VARIANTS.items()}
    of_graphs = {
        slug: GraphQuery(each, of_settings[slug], settings.classes)
        for slug, each in VARIANTS.items()
    }
    of_compare = compare_model(VARIANTS, of_settings, settings.compare_variants)
    losses = {slug: LossQuestion(each, of_losses[slug]) for slug, each in VARIANTS.items()}
    comparing = CompareQuestion(of_compare)
    questions: list[Question] = [*losses.values(), comparing]
    by_path = {each.path: each for each in questions}
    served = Served(
        inference_models(VARIANTS, of_settings),
        questions=losses,
        regions=Regions(settings.shared_memory),
        engine=engine,
    )
    shelf = Shelf(settings, device=str(device))
    counted.watch_models(lambda: shelf.loaded)
    labelling = Labelling(
        settings,
        engine=engine,
        keys=keys,
        metrics=counted,
        recorder=remembering.recorder,
        relabelling=Relabelling(
            by_path,
            partial(terms_of, settings),
            device=device,
            kernels=kernels,
            threads=settings.threads,
        ),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await kernels.take()
        await asyncio.gather(engine.start(), remembering.start())
        kernels.begin_building()
        # What is there now stays: a collection that looked through all of PyTorch's modules again
        # would stop an evaluation for a tenth of a second.
        gc.freeze()
        log.info("ready", device=str(device), workers=settings.workers, threads=settings.threads)
        yield
        await kernels.stop()
        engine.stop()
        await remembering.stop()

    app = FastAPI(title="Xent", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.engine = engine
    app.state.kernels = kernels
    app.state.metrics = counted
    app.state.database = remembering.database
    app.state.tracking = remembering.tracking
    app.add_middleware(
        Shortcut, questions=by_path, answer=exchange.answer, expected=EXPECTED, problem=_problem
    )
    app.add_middleware(Telemetry, metrics=counted, log=log)  # around the one before
    for kind in EXPECTED:
        app.add_exception_handler(kind, _problem)
    for router in (
        loss.router(exchange, losses),
        compare.router(exchange, comparing),
        labels.router(labelling),
        served_models.router(
            served_models.Served(
                settings, keys=keys, shelf=shelf, questions=losses, comparing=comparing
            ),
            exchange,
        ),
        variants.router(VARIANTS, of_settings),
        graphs.router(of_graphs),
        protocol.router(served),
        models.router(served),
        inference.router(served, exchange),
        regions.router(served, keys, deadline_s=settings.body_deadline_s),
        alerts.router(remembering.alerts, remembering.watch, remembering.changing),
        history.router(remembering.lookup, remembering.changing, remembering.database),
        health.router(engine, kernels, remembering.recorder, str(device)),
        metrics.router(counted, keys),
        docs.router(),
        dashboard.router(Parts(remembering.database, remembering.alerts), remembering.lookup, keys),
    ):
        app.include_router(router)

    _describe(app, [*of_losses.values(), of_compare])
    return app


def _describe(app: FastAPI, models: Sequence[type[Document]]) -> None:
    """Have the application describe itself with what the framework cannot know."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi.document(app, models)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # the framework's own way to replace it


async def _problem(request: Request, error: Exception) -> Response:
    notes = notes_of(request.scope)
    notes.error = error
    return problem_response(error, notes.request_id, path=request.scope["path"])
