"""Looking at alerts now and then, whether or not somebody asks."""

from collections.abc import Callable

from sqlalchemy import select

from service.errors import UnknownProject
from service.history import tables
from service.history.alerts import Alerts
from service.history.database import Database
from service.history.turns import Turns


class Watcher(Turns):
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
        super().__init__("alerts", rest_s=interval_s, report=report)
        self._database = database
        self._alerts = alerts

    def _turn(self) -> float:
        project, alert = tables.project, tables.alert
        watched = select(alert.c.project_id)
        query = select(project.c.name).where(project.c.id.in_(watched)).order_by(project.c.id)
        with self._database.reading() as connection:
            names = connection.execute(query).scalars().all()
        for name in names:
            if self._stopped.is_set():
                break
            try:
                self._alerts.evaluate(name)
            except UnknownProject:  # it went meanwhile
                continue
        return self._rest_s
