"""The parts of pages: each asks the history and fills a template."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from service.dashboard import details, filters, overview, sides
from service.dashboard.render import Templates
from service.dashboard.state import State, state_of
from service.history import listing, rollups, times
from service.history.alerts import Alerts
from service.history.database import Database

Context = Mapping[str, object]
Part = Callable[[State, int], Context]

WIDTH: Final = "width"
NARROWEST, USUAL, WIDEST = 240, 720, 1600

PARTS: Final[Mapping[str, Part]] = {
    "filters": lambda state, _: filters.selection_form(state),
    "choices": lambda state, _: filters.timeline_form(state),
    "timeline": overview.timeline,
    "losses": overview.losses,
    "heatmap": details.changes,
    "shares": lambda state, _: details.shares(state),
    "reliability": details.confidence,
    "hardest": lambda state, _: details.rows(state),
    "sides": lambda state, _: sides.sides(state),
    "verdict": sides.verdict,
}
# These look at the project's alerts as well.
WATCHING: Final = {"summary": overview.summary, "events": overview.events}


class Parts:
    """Fills the parts of pages.

    Args:
        database: where the history is.
        alerts: of all projects.
    """

    def __init__(self, database: Database, alerts: Alerts) -> None:
        self._database = database
        self._alerts = alerts
        self._templates = Templates()

    def projects(self) -> str:
        """Return the list of projects, or how to begin where there are none."""
        rollups.refresh_all(self._database)
        with self._database.reading() as connection:
            found = listing.projects(connection)["projects"]
        for each in found:
            each["newest"] = times.parse(each["last"])
        now = times.text(times.floor(time.time_ns() // 1000, times.SECOND))
        return self._templates.page("parts/projects.html", projects=found, now=now)

    def part(self, project: str, name: str, query: Iterable[tuple[str, str]]) -> str | None:
        """Return a part of a page of a project; ``None`` if there is no such part.

        Raises:
            UnknownProject: nothing was recorded under that name.
            InvalidDocument: the address says nothing meaningful.
        """
        pairs = list(query)
        width = _width(dict(pairs).get(WIDTH, ""))
        pairs = [pair for pair in pairs if pair[0] != WIDTH]
        if name in WATCHING:
            alerts = self._alerts.listing(project)["alerts"]
            with rollups.view(self._database, project) as view:
                context: Context = WATCHING[name](state_of(view, pairs), alerts)
        elif name in PARTS:
            with rollups.view(self._database, project) as view:
                context = PARTS[name](state_of(view, pairs), width)
        else:
            return None
        return self._templates.page(f"parts/{name}.html", **context)


def _width(text: str) -> int:
    """Return the pixels that a chart has."""
    asked = int(text) if text.isascii() and text.isdecimal() and len(text) <= 4 else USUAL  # noqa: PLR2004
    return min(max(asked, NARROWEST), WIDEST)
