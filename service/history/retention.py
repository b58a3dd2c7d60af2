"""What is too old goes, whole days of it, a little in each transaction."""

from typing import Any, Final

from sqlalchemy import Connection, Table, delete, select, tuple_

from service.history.changes import Changes
from service.history.tables import annotation, batch, dirty, pending, rollup, series
from service.history.times import DAY, LEVELS, floor

REMOVED_AT_ONCE: Final = 500
Condition = Any  # SQLAlchemy's, of a table


def oldest_kept(now: int, days: int) -> int | None:
    """Return the event time before which nothing is kept: a midnight, UTC. 0 days keep all.

    Whole days, so that no bucket of the rollups is kept in part.
    """
    return floor(now - days * DAY, DAY) if days else None


def stale(connection: Connection, oldest: int) -> list[tuple[int, int]]:
    """Return project and series ids of the series that hold something older."""
    batches = select(1).where(batch.c.series_id == series.c.id, batch.c.event_time < oldest)
    rollups = select(1).where(
        rollup.c.series_id == series.c.id, rollup.c.length.in_(LEVELS), rollup.c.start < oldest
    )
    wanted = select(series.c.project_id, series.c.id).where(batches.exists() | rollups.exists())
    return [(row.project_id, row.id) for row in connection.execute(wanted.order_by(series.c.id))]


def remove_some(changes: Changes, project_id: int, series_id: int, *, oldest: int) -> int:
    """Remove some of what a series holds that is older; return how much, 0 when it is done."""
    # What marks minutes first, batches last: no rollup is made again of what is about to go.
    removed = (
        _remove(changes, dirty, (dirty.c.series_id == series_id) & (dirty.c.start < oldest))
        or _remove(
            changes,
            rollup,
            (rollup.c.series_id == series_id)
            & rollup.c.length.in_(LEVELS)
            & (rollup.c.start < oldest),
        )
        or _remove(changes, batch, (batch.c.series_id == series_id) & (batch.c.event_time < oldest))
    )
    if removed:
        changes.mark_project(project_id)
    return removed


def remove_notes(changes: Changes, *, oldest: int) -> int:
    """Remove some annotations that are older; return how many."""
    old = annotation.c.time < oldest
    projects = changes.connection.execute(select(annotation.c.project_id).where(old).distinct())
    for project_id in projects.scalars():
        changes.mark_project(project_id)
    return _remove(changes, annotation, old)


def _remove(changes: Changes, table: Table, which: Condition) -> int:
    key = list(table.primary_key)
    chosen = changes.connection.execute(select(*key).where(which).limit(REMOVED_AT_ONCE)).all()
    if not chosen:
        return 0
    if table is batch:
        ids = [row.id for row in chosen]
        changes.connection.execute(delete(pending).where(pending.c.batch_key.in_(ids)))
    changes.connection.execute(delete(table).where(tuple_(*key).in_(map(tuple, chosen))))
    return len(chosen)
