"""What one transaction changes, and what follows from that: dirty minutes, project revisions."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Self

from sqlalchemy import Connection, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from service.history.tables import dirty, project
from service.history.times import MINUTE, floor


class Changes:
    """A transaction that is open. Whoever changes something in it says what.

    Args:
        connection: on which it is open.

    Attributes:
        projects: about which answers change.
        minutes: series, and minutes of them, whose rollups are not what their batches say.
        after: what is called once everything is durable; must not raise.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.projects: set[int] = set()
        self.minutes: set[tuple[int, int]] = set()
        self.after: list[Callable[[], object]] = []

    def mark_project(self, project_id: int) -> None:
        """Say that answers about a project change."""
        self.projects.add(project_id)

    def mark_batch(self, project_id: int, series_id: int, event_time: int) -> None:
        """Say that what is known of a series at a time changes."""
        self.projects.add(project_id)
        self.minutes.add((series_id, floor(event_time, MINUTE)))

    def after_commit(self, call: Callable[[], object]) -> None:
        """Call back once everything is durable."""
        self.after.append(call)

    @contextmanager
    def savepoint(self) -> Iterator[Self]:
        """Open a part that an exception undoes alone, with all that was said in it."""
        part = type(self)(self.connection)
        with self.connection.begin_nested():
            yield part
        self.projects |= part.projects
        self.minutes |= part.minutes
        self.after += part.after

    def finish(self) -> None:
        """Write what follows; the last thing before the commit."""
        if self.minutes:
            self._write_minutes()
        if self.projects:
            revise(self.connection, self.projects)

    def committed(self) -> None:
        """Tell everybody who asked."""
        for call in self.after:
            call()

    def _write_minutes(self) -> None:
        sqlite = self.connection.dialect.name == "sqlite"
        insert = sqlite_insert(dirty) if sqlite else postgresql_insert(dirty)
        self.connection.execute(
            insert.on_conflict_do_nothing(),
            [{"series_id": series, "start": minute} for series, minute in sorted(self.minutes)],
        )


def revise(connection: Connection, projects: Collection[int]) -> None:
    """Write that answers about projects change."""
    later = update(project).values(revision=project.c.revision + 1)
    connection.execute(later.where(project.c.id.in_(sorted(projects))))
