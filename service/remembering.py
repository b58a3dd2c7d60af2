"""The parts of the history, joined: opened, started and stopped together."""

from collections.abc import Callable
from typing import Final

from anyio import to_thread

from service.changing import Changing
from service.history.alerts import Alerts
from service.history.database import Database, url_of
from service.history.recorder import Recorder, RecorderLimits
from service.history.rollups import Refresher
from service.history.sweeper import Sweeper
from service.history.watcher import Watcher
from service.history.webhooks import Webhooks
from service.keys import Keys
from service.lookup import Lookup
from service.metrics import Metrics
from service.settings import Settings
from service.telemetry import Logger
from service.tracking import Tracking
from service.watch import Watch

REFRESH_S: Final = 2.0  # rollups are brought up to date this often, whether or not somebody asks


class Remembering:
    """What was evaluated: how it is recorded, asked for and watched.

    Args:
        settings: of the service.
        keys: who may ask.
        metrics: what Prometheus is told.
        log: told when the database is away.
        answering: returns how many requests are being answered.

    Attributes:
        database: where it is kept.
        recorder: what writes.
        tracking: from an evaluation to the recorder.
        lookup: what answers questions.
        changing: what people write.
        alerts: the rules.
        watch: the alerts, as they are asked for.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        metrics: Metrics,
        log: Logger,
        *,
        answering: Callable[[], int],
    ) -> None:
        self.database = database = Database(url_of(settings.database_url, settings.data_dir))
        self.recorder = recorder = Recorder(
            database, _limits(settings), log=log, answering=answering
        )
        self.tracking = Tracking(recorder, metrics=metrics, pending_s=3600 * settings.pending_hours)
        self.lookup = Lookup(database, keys)
        self.changing = Changing(self.lookup, keys, body_deadline_s=settings.body_deadline_s)
        webhooks = Webhooks(
            database,
            settings.webhook_hosts,
            deadline_s=settings.webhook_deadline_s,
            count=metrics.count_delivery,
            report=_failed(log, "webhooks_not_sent"),
        )
        self.alerts = alerts = Alerts(database, settings.webhook_hosts, wake=webhooks.wake)
        self.watch = Watch(alerts, self.lookup)
        metrics.watch_recorder(lambda: recorder.waiting)
        metrics.show_alerts(alerts.states)
        self._sweeper = Sweeper(database, recorder, days=settings.retention_days, log=log)
        self._threads = (
            Watcher(
                database,
                alerts,
                interval_s=settings.alert_interval_s,
                report=_failed(log, "alerts_not_looked_at"),
            ),
            webhooks,
            Refresher(database, interval_s=REFRESH_S, report=_failed(log, "rollups_not_rebuilt")),
        )

    async def start(self) -> None:
        """Make the tables where they are missing, and begin."""
        await self.recorder.start()
        self._sweeper.start()
        for each in self._threads:
            each.start()

    async def stop(self) -> None:
        """End; return once what waits to be recorded is durable, or refused."""
        for each in self._threads:
            await to_thread.run_sync(each.stop)
        await self._sweeper.stop()
        await self.recorder.stop()
        self.database.close()


def _failed(log: Logger, what: str) -> Callable[[Exception], None]:
    return lambda error: log.warning(what, error=type(error).__name__)


def _limits(settings: Settings) -> RecorderLimits:
    return RecorderLimits(
        queue=settings.history_queue,
        queue_bytes=settings.history_queue_bytes,
        deadline_s=settings.history_deadline_s,
        pending_bytes=settings.pending_bytes,
        retention_days=settings.retention_days,
    )
