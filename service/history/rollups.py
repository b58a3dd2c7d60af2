"""Minutes, hours and days: a cache of sums that is rebuilt wherever its batches changed.

A minute is made of its batches in the order of (event time, batch id), an hour of its minutes, a
day of its hours. So the same history gives the same bytes, in whatever order it came.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
from sqlalchemy import (
    BigInteger,
    Connection,
    bindparam,
    column,
    delete,
    insert,
    select,
    values,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.expression import CTE

from service.errors import UnknownProject
from service.history import stack, tables, times
from service.history.database import Database
from service.history.stack import Stack
from service.history.sums import ARRAYS, SCALARS

COLUMNS: Final = (stack.REVISION, stack.PENDING, *SCALARS, *ARRAYS, "hardest")
MINUTES: Final = 512  # of one transaction: those who write wait for it
PAGE: Final = 256  # stored rows that are in memory at a time
TRIES: Final = 3

Bucket = tuple[int, int]  # series, start
Found = tuple[Bucket, Sequence[Any]]  # a stored row, and the bucket that it goes to


def refresh(connection: Connection, *, project_id: int | None = None) -> bool:
    """Rebuild some of what is not what its batches say; return whether more may be left.

    Args:
        connection: of a transaction that writes, so that no batch comes in between.
        project_id: rebuild this project's only.
    """
    minutes = _dirty(connection, project_id)
    if not minutes:
        return False
    _rebuild(connection, times.MINUTE, minutes, _of_batches(connection, minutes))
    for length, part in ((times.HOUR, times.MINUTE), (times.DAY, times.HOUR)):
        buckets = sorted({(each, times.floor(start, length)) for each, start in minutes})
        _rebuild(connection, length, buckets, _of_rollups(connection, buckets, length, part))
    done = delete(tables.dirty).where(
        tables.dirty.c.series_id == bindparam("series"), tables.dirty.c.start == bindparam("at")
    )
    connection.execute(done, [{"series": each, "at": start} for each, start in minutes])
    return len(minutes) == MINUTES


def refresh_all(database: Database, *, project_id: int | None = None) -> None:
    """Rebuild everything, in transactions of bounded size."""
    more = True
    while more:
        with database.writing() as connection:
            more = refresh(connection, project_id=project_id)


@dataclass(frozen=True, slots=True)
class View:
    """A project as it is at one moment, rollups included."""

    connection: Connection
    project: str
    project_id: int
    revision: int


@contextmanager
def view(database: Database, project: str) -> Iterator[View]:
    """Open a transaction in which the rollups of a project are what its batches say.

    Raises:
        UnknownProject: nothing was ever recorded under that name.
    """
    revision: int | None = None
    for turn in range(TRIES + 1):
        with database.reading() as connection:
            found = project_of(connection, project)
            # Where somebody writes without pause, rollups lag behind what is committed now: the
            # first revision seen is the one that they certainly hold.
            revision = found.revision if revision is None else revision
            if not _dirty(connection, found.id, most=1):
                yield View(connection, project, found.id, found.revision)
                return
            if turn == TRIES:
                yield View(connection, project, found.id, revision)
                return
        refresh_all(database, project_id=found.id)


def project_of(connection: Connection, project: str) -> Any:  # noqa: ANN401
    """Return the id and the revision of a project. Raises UnknownProject."""
    found = connection.execute(
        select(tables.project.c.id, tables.project.c.revision).where(
            tables.project.c.name == project
        )
    ).one_or_none()
    if found is None:
        raise UnknownProject("nothing was recorded under this project; GET /projects lists them")
    return found


class Refresher:
    """Rebuilds in the background, so that who asks seldom has to wait for it.

    Args:
        database: where the rollups are.
        interval_s: how long it rests in between.
        report: told of what the database refused; the next turn tries again.
    """

    def __init__(
        self, database: Database, *, interval_s: float, report: Callable[[Exception], None]
    ) -> None:
        self._database = database
        self._interval_s = interval_s
        self._report = report
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollups", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the transaction that runs."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            try:
                self._turn()
            except SQLAlchemyError as error:
                self._report(error)

    def _turn(self) -> None:
        with self._database.reading() as connection:
            more = bool(_dirty(connection, None, most=1))
        while more and not self._stopped.is_set():
            with self._database.writing() as connection:
                more = refresh(connection)


def _dirty(connection: Connection, project_id: int | None, *, most: int = MINUTES) -> list[Bucket]:
    dirty, series = tables.dirty, tables.series
    query = select(dirty.c.series_id, dirty.c.start)
    if project_id is not None:
        query = query.join(series, series.c.id == dirty.c.series_id)
        query = query.where(series.c.project_id == project_id)
    query = query.order_by(dirty.c.series_id, dirty.c.start).limit(most)
    return [(each, start) for each, start in connection.execute(query)]


def _rebuild(
    connection: Connection, length: int, buckets: Sequence[Bucket], rows: Iterable[Found]
) -> None:
    """Replace buckets by what their rows add up to; one without rows is there no longer."""
    made = [
        {"series_id": each, "length": length, "start": start, **stored}
        for (each, start), stored in _folded(rows)
    ]
    rollup = tables.rollup
    gone = delete(rollup).where(
        rollup.c.series_id == bindparam("series"),
        rollup.c.length == length,
        rollup.c.start == bindparam("at"),
    )
    connection.execute(gone, [{"series": each, "at": start} for each, start in buckets])
    if made:
        connection.execute(insert(rollup), made)


def _folded(rows: Iterable[Found]) -> Iterator[tuple[Bucket, dict[str, object]]]:
    """Yield the sums of each bucket, of rows that come bucket after bucket."""
    kept: Stack | None = None
    last: Bucket | None = None
    for page in _pages(rows):
        buckets = [bucket for bucket, _ in groupby(bucket for bucket, _ in page)]
        place = np.repeat(
            np.arange(len(buckets)), [len(list(each)) for _, each in groupby(b for b, _ in page)]
        )
        part = stack.decode(COLUMNS, [row for _, row in page])
        if kept is not None and last is not None:
            # What the page before left unfinished is the first to be added.
            shift = 0 if buckets[0] == last else 1
            buckets = buckets if shift == 0 else [last, *buckets]
            place = np.concatenate([[0], place + shift])
            part = stack.concatenate([kept, part])
        whole = stack.fold(part, place, len(buckets))
        yield from zip(buckets[:-1], whole.columns(), strict=False)
        kept, last = whole.take(np.array([len(buckets) - 1])), buckets[-1]
    if kept is not None and last is not None:
        yield last, next(kept.columns())


def _pages(rows: Iterable[Found]) -> Iterator[list[Found]]:
    page: list[Found] = []
    for row in rows:
        page.append(row)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def _of_batches(connection: Connection, minutes: Sequence[Bucket]) -> Iterator[Found]:
    """Yield the batches of minutes, minute by minute, each in the order that fixes its sums."""
    batch, wanted = tables.batch, _wanted(minutes)
    keys = connection.execute(
        select(batch.c.series_id, batch.c.event_time, batch.c.batch_id, batch.c.id).join(
            wanted,
            (batch.c.series_id == wanted.c.series_id)
            & (batch.c.event_time >= wanted.c.start)
            & (batch.c.event_time < wanted.c.start + times.MINUTE),
        )
    )
    # Not by the database: each sorts text in its own way.
    ordered = sorted(tuple(key) for key in keys)
    for begin in range(0, len(ordered), PAGE):
        page = ordered[begin : begin + PAGE]
        stored = connection.execute(
            select(batch.c.id, *(batch.c[name] for name in COLUMNS)).where(
                batch.c.id.in_([key for *_, key in page])
            )
        )
        found = {row[0]: row[1:] for row in stored}
        for each, event_time, _, key in page:
            yield (each, times.floor(event_time, times.MINUTE)), found[key]


def _of_rollups(
    connection: Connection, buckets: Sequence[Bucket], length: int, part: int
) -> Iterator[Found]:
    """Yield the rollups that buckets are made of, bucket by bucket, in the order of time."""
    rollup, wanted = tables.rollup, _wanted(buckets)
    rows = connection.execute(
        select(wanted.c.start, rollup.c.series_id, *(rollup.c[name] for name in COLUMNS))
        .join(
            wanted,
            (rollup.c.series_id == wanted.c.series_id)
            & (rollup.c.length == part)
            & (rollup.c.start >= wanted.c.start)
            & (rollup.c.start < wanted.c.start + length),
        )
        .order_by(rollup.c.series_id, rollup.c.start),
        execution_options={"yield_per": PAGE},
    )
    for start, each, *stored in rows:
        yield (each, start), stored


def _wanted(buckets: Sequence[Bucket]) -> CTE:
    """Return buckets as a table to join with."""
    return (
        values(column("series_id", BigInteger), column("start", BigInteger), name="wanted")
        .data(list(buckets))
        .cte()
    )
