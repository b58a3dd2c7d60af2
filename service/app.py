"""``create_app(settings)``: the only place where the parts are joined."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from service import openapi
from service.dashboard.parts import Parts
from service.engine import Capacity, Engine
from service.errors import ServiceError
from service.exchange import Exchange
from service.history.alerts import Alerts
from service.history.database import Database, sqlite_url
from service.history.recorder import Recorder, RecorderLimits
from service.history.rollups import Refresher
from service.history.sweeper import Sweeper
from service.history.watcher import Watcher
from service.history.webhooks import Webhooks
from service.kernels import Kernels
from service.keys import Keys
from service.labelling import Labelling
from service.lookup import Lookup
from service.metrics import Metrics
from service.notes import Notes
from service.problems import problem_response
from service.questions import CompareQuestion, LossQuestion, Question
from service.relabelling import Relabelling
from service.routes import (
    alerts,
    compare,
    dashboard,
    docs,
    health,
    history,
    labels,
    loss,
    metrics,
    variants,
)
from service.schema.document import Document
from service.schema.models import compare_model, loss_model, settings_models
from service.settings import Settings
from service.telemetry import Logger, Telemetry, make_logger, notes_of
from service.terms import terms_of
from service.tracking import Tracking
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
    database = Database(_database_url(settings))
    recorder = Recorder(database, _recorder_limits(settings), log=log)
    sweeper = Sweeper(database, recorder, days=settings.retention_days, log=log)
    counted.watch_recorder(lambda: recorder.waiting)
    tracking = Tracking(recorder, metrics=counted, pending_s=3600 * settings.pending_hours)
    exchange = Exchange(
        settings,
        engine=engine,
        kernels=kernels,
        keys=keys,
        metrics=counted,
        tracking=tracking,
        device=device,
    )

    lookup = Lookup(database, keys)
    notes = Notes(database, lookup, keys, body_deadline_s=settings.body_deadline_s)
    watched, background = _background(settings, database, counted, log)

    of_settings = settings_models(VARIANTS)
    of_losses = {slug: loss_model(each, of_settings[slug]) for slug, each in VARIANTS.items()}
    of_compare = compare_model(VARIANTS, of_settings, settings.compare_variants)
    losses = {slug: LossQuestion(each, of_losses[slug]) for slug, each in VARIANTS.items()}
    comparing = CompareQuestion(of_compare)
    labelling = Labelling(
        settings,
        engine=engine,
        keys=keys,
        metrics=counted,
        recorder=recorder,
        relabelling=Relabelling(
            _by_path([*losses.values(), comparing]),
            partial(terms_of, settings),
            device=device,
            kernels=kernels,
            threads=settings.threads,
        ),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await kernels.take()
        await asyncio.gather(engine.start(), recorder.start())
        sweeper.start()
        for worker in background:
            worker.start()
        kernels.begin_building()
        # What is there now stays: a collection that looked through all of PyTorch's modules again
        # would stop an evaluation for a tenth of a second.
        gc.freeze()
        log.info("ready", device=str(device), workers=settings.workers, threads=settings.threads)
        yield
        await kernels.stop()
        engine.stop()
        for worker in background:
            await to_thread.run_sync(worker.stop)
        await sweeper.stop()
        await recorder.stop()
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
        loss.router(exchange, losses),
        compare.router(exchange, comparing),
        labels.router(labelling),
        variants.router(VARIANTS, of_settings),
        alerts.router(Watch(watched, lookup, keys, body_deadline_s=settings.body_deadline_s)),
        history.router(lookup, notes),
        health.router(engine, kernels, recorder),
        metrics.router(counted, keys),
        docs.router(),
        dashboard.router(Parts(database, watched), lookup, keys),
    ):
        app.include_router(router)

    _describe(app, [*of_losses.values(), of_compare])
    return app


def _by_path(questions: Sequence[Question]) -> dict[str, Question]:
    return {each.path: each for each in questions}


def _describe(app: FastAPI, models: Sequence[type[Document]]) -> None:
    """Have the application describe itself with what the framework cannot know."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi.document(app, models)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # the framework's own way to replace it


def _background(
    settings: Settings, database: Database, counted: Metrics, log: Logger
) -> tuple[Alerts, tuple[Watcher, Webhooks, Refresher]]:
    """Return the alerts, and the threads that look after the history."""

    def failed(what: str) -> Callable[[Exception], None]:
        return lambda error: log.warning(what, error=type(error).__name__)

    refresher = Refresher(database, interval_s=REFRESH_S, report=failed("rollups_not_rebuilt"))
    webhooks = Webhooks(
        database,
        settings.webhook_hosts,
        deadline_s=settings.webhook_deadline_s,
        count=counted.count_delivery,
        report=failed("webhooks_not_sent"),
    )
    watched = Alerts(database, settings.webhook_hosts, wake=webhooks.wake)
    counted.show_alerts(watched.states)
    interval_s = settings.alert_interval_s
    report = failed("alerts_not_looked_at")
    watcher = Watcher(database, watched, interval_s=interval_s, report=report)
    return watched, (watcher, webhooks, refresher)


def _database_url(settings: Settings) -> str:
    if settings.database_url is None:
        return sqlite_url(settings.data_dir)
    return settings.database_url.get_secret_value()


def _recorder_limits(settings: Settings) -> RecorderLimits:
    return RecorderLimits(
        queue=settings.history_queue,
        queue_bytes=settings.history_queue_bytes,
        deadline_s=settings.history_deadline_s,
        pending_bytes=settings.pending_bytes,
        retention_days=settings.retention_days,
    )


async def _problem(request: Request, error: Exception) -> Response:
    notes = notes_of(request.scope)
    notes.error = error
    return problem_response(error, notes.request_id)
