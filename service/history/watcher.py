"""Looking at alerts now and then, whether or not somebody asks."""

import threading
from collections.abc import Callable

from sqlalchemy import select

from service.errors import UnknownProject
from service.history import tables
from service.history.alerts import Alerts
from service.history.database import Database


class Watcher:
    """Looks at the alerts of projects that changed, in a thread of its own.

    Args:
        database: where they are.
        alerts: what is looked at.
        interval_s: how long it rests in between.
        report: told of what went wrong; the next turn tries again.
    """

    def __init__(
        self,
        database: Database,
        alerts: Alerts,
        *,
        interval_s: float,
        report: Callable[[Exception], None],
    ) -> None:
        self._database = database
        self._alerts = alerts
        self._interval_s = interval_s
        self._report = report
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the project that is being looked at."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001  (one rule's bug must not end the watch)
                self._report(error)
            self._stopped.wait(self._interval_s)

    def _turn(self) -> None:
        project, alert = tables.project, tables.alert
        watched = select(alert.c.project_id)
        query = select(project.c.name).where(project.c.id.in_(watched)).order_by(project.c.id)
        with self._database.reading() as connection:
            names = connection.execute(query).scalars().all()
        for name in names:
            if self._stopped.is_set():
                return
            try:
                self._alerts.evaluate(name)
            except UnknownProject:  # it went meanwhile
                continue
