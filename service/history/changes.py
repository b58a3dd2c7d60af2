"""What one transaction changes, and what follows from that: dirty minutes, project revisions."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Self

from sqlalchemy import Connection, bindparam, literal_column, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from service.history.ledger import Ledger
from service.history.prepared import DIALECTS, Prepared
from service.history.tables import dirty, project
from service.history.times import MINUTE, floor

COUNTED: Final = Prepared(
    dict.fromkeys(
        DIALECTS,
        update(project)
        .where(project.c.id == bindparam("project_id"))
        .values(revision=project.c.revision + literal_column("1")),
    )
)
MARKED: Final = Prepared(
    {
        "sqlite": sqlite_insert(dirty).on_conflict_do_nothing(),
        "postgresql": postgresql_insert(dirty).on_conflict_do_nothing(),
    },
    ["series_id", "start"],
)


class Changes:
    """A transaction that is open. Whoever changes something in it says what.

    Args:
        beside: the connection on which it is open.
        batches: identities of batches that will be asked about.

    Attributes:
        beside: the connection, for statements that neither read nor change batches.
        ledger: the batches.
        projects: about which answers change.
        minutes: series, and minutes of them, whose rollups are not what their batches say.
        after: what is called once everything is durable; must not raise.
    """

    def __init__(self, beside: Connection, batches: Iterable[bytes] = ()) -> None:
        self.beside = beside
        self.ledger = Ledger(beside, batches)
        self.projects: set[int] = set()
        self.minutes: set[tuple[int, int]] = set()
        self.after: list[Callable[[], object]] = []

    @property
    def connection(self) -> Connection:
        """The connection, for any statement: it sees all that was added so far."""
        self.ledger.settle()
        return self.beside

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
        with self.beside.begin_nested():
            yield part
            part.ledger.settle()
        self.projects |= part.projects
        self.minutes |= part.minutes
        self.after += part.after

    def finish(self) -> None:
        """Write what was added, and what follows; the last thing before the commit."""
        self.ledger.settle()
        if self.minutes:
            self._write_minutes()
        if self.projects:
            revise(self.beside, self.projects)

    def committed(self) -> None:
        """Tell everybody who asked."""
        for call in self.after:
            call()

    def _write_minutes(self) -> None:
        MARKED.run(
            self.beside,
            [{"series_id": series, "start": minute} for series, minute in sorted(self.minutes)],
        )


def revise(connection: Connection, projects: Collection[int]) -> None:
    """Write that answers about projects change."""
    COUNTED.run(connection, [{"project_id": each} for each in sorted(projects)])
