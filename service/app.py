"""``create_app(settings)``: the only place where the parts are joined."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from service import openapi
from service.engine import Capacity, Engine
from service.errors import ServiceError
from service.exchange import Exchange
from service.history.alerts import Alerts
from service.history.database import Database, sqlite_url
from service.history.rollups import Refresher
from service.history.watcher import Watcher
from service.history.webhooks import Webhooks
from service.kernels import Kernels
from service.keys import Keys
from service.lookup import Lookup
from service.metrics import Metrics
from service.notes import Notes
from service.problems import problem_response
from service.questions import CompareQuestion
from service.routes import alerts, compare, docs, health, history, loss, metrics, variants
from service.schema.models import compare_model, loss_model, settings_models
from service.settings import Settings
from service.telemetry import Telemetry, make_logger, notes_of
from service.version import VERSION
from service.warmup import warm_up
from service.watch import Watch
from xentcore import VARIANTS, XentError, resolve_device

REFRESH_S: Final = 2.0  # rollups are brought up to date this often, whether or not somebody asks


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
    exchange = Exchange(
        settings, engine=engine, kernels=kernels, keys=keys, metrics=counted, device=device
    )

    database = Database(sqlite_url(settings.data_dir))
    lookup = Lookup(database, keys)
    notes = Notes(database, lookup, keys, body_deadline_s=settings.body_deadline_s)
    refresher = Refresher(
        database,
        interval_s=REFRESH_S,
        report=lambda error: log.warning("rollups_not_rebuilt", error=type(error).__name__),
    )
    webhooks = Webhooks(
        database,
        settings.webhook_hosts,
        deadline_s=settings.webhook_deadline_s,
        count=counted.count_delivery,
        report=lambda error: log.warning("webhooks_not_sent", error=type(error).__name__),
    )
    watched = Alerts(database, settings.webhook_hosts, wake=webhooks.wake)
    watcher = Watcher(
        database,
        watched,
        interval_s=settings.alert_interval_s,
        report=lambda error: log.warning("alerts_not_looked_at", error=type(error).__name__),
    )
    counted.show_alerts(watched.states)
    watch = Watch(watched, lookup, keys, body_deadline_s=settings.body_deadline_s)

    of_settings = settings_models(VARIANTS)
    of_losses = {slug: loss_model(each, of_settings[slug]) for slug, each in VARIANTS.items()}
    of_compare = compare_model(VARIANTS, of_settings, settings.compare_variants)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(database.migrate)
        for worker in (refresher, webhooks, watcher):
            worker.start()
        await kernels.take()
        await engine.start()
        kernels.begin_building()
        # What is there now stays: a collection that looked through all of PyTorch's modules again
        # would stop an evaluation for a tenth of a second.
        gc.freeze()
        log.info("ready", device=str(device), workers=settings.workers, threads=settings.threads)
        yield
        await kernels.stop()
        engine.stop()
        for worker in (watcher, webhooks, refresher):
            await to_thread.run_sync(worker.stop)
        database.close()

    app = FastAPI(title="Xent", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.engine = engine
    app.state.kernels = kernels
    app.state.metrics = counted
    app.state.database = database
    app.state.log = log
    app.add_middleware(Telemetry, metrics=counted, log=log)
    for kind in (ServiceError, XentError, HTTPException, MemoryError):
        app.add_exception_handler(kind, _problem)
    for router in (
        loss.router(exchange, VARIANTS, of_losses),
        compare.router(exchange, CompareQuestion(of_compare)),
        variants.router(VARIANTS, of_settings),
        alerts.router(watch),
        history.router(lookup, notes),
        health.router(engine, kernels),
        metrics.router(counted, keys),
        docs.router(),
    ):
        app.include_router(router)

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi.document(app, [*of_losses.values(), of_compare])
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # the framework's own way to replace it
    return app


async def _problem(request: Request, error: Exception) -> Response:
    notes = notes_of(request.scope)
    notes.error = error
    return problem_response(error, notes.request_id)
