"""Minutes up to days: a cache of sums that is rebuilt wherever its batches changed.

A minute is made of its batches in the order of (event time, batch id), a bucket of the next of
:data:`times.LEVELS` of its minutes, and so on. So the same history gives the same bytes, in
whatever order it came.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from time import monotonic
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Select, bindparam, collate, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from service.errors import UnknownProject
from service.history import stack, tables, times
from service.history.database import Database
from service.history.stack import Stack
from service.history.sums import ARRAYS, SCALARS
from service.history.turns import Turns

COLUMNS: Final = (stack.REVISION, stack.PENDING, *SCALARS, *ARRAYS, "hardest")
MINUTES: Final = 512  # of one transaction: those who write wait for it
PAGE: Final = 256  # stored rows that are in memory at a time
GAP: Final = 10  # buckets: less than this apart, they are read together, and what is between
TRIES: Final = 3
# Batches that come late make minutes that are over again and again. Whoever asks has them added up;
# in the background that takes no more than one part in so many of the time.
SHARE: Final = 20

_BYTES: Final = {"sqlite": "BINARY", "postgresql": "C"}

Bucket = tuple[int, int]  # series, start
Found = tuple[Bucket, Sequence[Any]]  # a stored row, and the bucket that it goes to


def refresh(
    connection: Connection,
    *,
    project_id: int | None = None,
    before: int | None = None,
    most: int = MINUTES,
) -> bool:
    """Rebuild some of what is not what its batches say; return whether more may be left.

    Args:
        connection: of a transaction that writes, so that no batch comes in between.
        project_id: rebuild this project's only.
        before: rebuild only minutes that begin before it.
        most: minutes that are rebuilt.
    """
    minutes = _dirty(connection, project_id, most, before=before)
    if not minutes:
        return False
    _rebuild(connection, times.MINUTE, minutes, _of_batches(connection, minutes))
    for part, length in pairwise(times.LEVELS):
        buckets = sorted({(each, times.floor(start, length)) for each, start in minutes})
        _rebuild(connection, length, buckets, _of_rollups(connection, buckets, length, part))
    dirty = tables.dirty.c
    for each, group in groupby(minutes, key=itemgetter(0)):
        starts = [start for _, start in group]
        # All between them: they were read in this order, and nobody else writes.
        between = dirty.start.between(starts[0], starts[-1])
        connection.execute(delete(tables.dirty).where(dirty.series_id == each, between))
    return len(minutes) == most


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
            if not _dirty(connection, found.id, 1):
                yield View(connection, project, found.id, found.revision)
                return
            if turn == TRIES:
                yield View(connection, project, found.id, revision)
                return
        refresh_all(database, project_id=found.id)


@contextmanager
def bare(database: Database, project: str) -> Iterator[View]:
    """Open a transaction for who reads no rollups, which may be behind. Raises UnknownProject."""
    with database.reading() as connection:
        found = project_of(connection, project)
        yield View(connection, project, found.id, found.revision)


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


class Refresher(Turns):
    """Rebuilds minutes that are over in the background: who asks seldom has to wait for it.

    Args:
        database: where the rollups are.
        interval_s: how long it rests in between.
        report: told of what went wrong; the next turn tries again.
    """

    def __init__(
        self, database: Database, *, interval_s: float, report: Callable[[Exception], None]
    ) -> None:
        super().__init__("rollups", rest_s=interval_s, report=report)
        self._database = database

    def _turn(self) -> float:
        # A minute that is not over may get batches by the hundred, and each turn would add up all
        # of them again: that is left to who asks for it.
        before = times.now() - times.MINUTE
        started_s = monotonic()
        with self._database.reading() as connection:
            more = bool(_dirty(connection, None, 1, before=before))
        while more and not self._stopped.is_set():
            with self._database.writing() as connection:
                more = refresh(connection, before=before)
        return max(self._rest_s, SHARE * (monotonic() - started_s))


def _dirty(
    connection: Connection, project_id: int | None, most: int, *, before: int | None = None
) -> list[Bucket]:
    dirty, series = tables.dirty, tables.series
    query = select(dirty.c.series_id, dirty.c.start)
    if project_id is not None:
        query = query.join(series, series.c.id == dirty.c.series_id)
        query = query.where(series.c.project_id == project_id)
    if before is not None:
        query = query.where(dirty.c.start < before)
    query = query.order_by(dirty.c.series_id, dirty.c.start).limit(most)
    return [(each, start) for each, start in connection.execute(query)]


def _rebuild(
    connection: Connection, length: int, buckets: Sequence[Bucket], rows: Iterable[Found]
) -> None:
    """Replace buckets by what their rows add up to; one without rows is there no longer."""
    rollup = tables.rollup
    made = dict(_folded(rows))
    gone = [{"series": each, "at": start} for each, start in set(buckets) - made.keys()]
    if gone:
        of_bucket = (rollup.c.series_id == bindparam("series"), rollup.c.start == bindparam("at"))
        connection.execute(delete(rollup).where(rollup.c.length == length, *of_bucket), gone)
    if made:
        insert: sqlite.Insert | postgresql.Insert = (
            sqlite.insert(rollup)
            if connection.dialect.name == "sqlite"
            else postgresql.insert(rollup)
        )
        replace = insert.on_conflict_do_update(
            index_elements=rollup.primary_key,
            set_={name: insert.excluded[name] for name in COLUMNS},
        )
        connection.execute(
            replace,
            [
                {"series_id": each, "length": length, "start": start, **stored}
                for (each, start), stored in made.items()
            ],
        )


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
    batch = tables.batch.c
    # By bytes, whatever the language of the database.
    by_id = collate(batch.batch_id, _BYTES[connection.dialect.name])
    query = (
        select(batch.event_time, *(batch[name] for name in COLUMNS))
        .where(batch.series_id == bindparam("series"))
        .where(batch.event_time >= bindparam("begin"), batch.event_time < bindparam("end"))
        .order_by(batch.event_time, by_id)
    )
    return _read(connection, query, minutes, times.MINUTE)


def _of_rollups(
    connection: Connection, buckets: Sequence[Bucket], length: int, part: int
) -> Iterator[Found]:
    """Yield the rollups that buckets are made of, bucket by bucket, in the order of time."""
    rollup = tables.rollup.c
    query = (
        select(rollup.start, *(rollup[name] for name in COLUMNS))
        .where(rollup.series_id == bindparam("series"), rollup.length == part)
        .where(rollup.start >= bindparam("begin"), rollup.start < bindparam("end"))
        .order_by(rollup.start)
    )
    return _read(connection, query, buckets, length)


def _read(
    connection: Connection, query: Select[Any], buckets: Sequence[Bucket], length: int
) -> Iterator[Found]:
    """Yield what a query finds in buckets, which ascend, each row with the bucket it is in."""
    wanted = set(buckets)
    for each, begin, end in _runs(buckets, length):
        rows = connection.execute(
            query,
            {"series": each, "begin": begin, "end": end},
            execution_options={"yield_per": PAGE},
        )
        for time, *stored in rows:
            bucket = (each, times.floor(time, length))
            if bucket in wanted:
                yield bucket, stored


def _runs(buckets: Sequence[Bucket], length: int) -> Iterator[tuple[int, int, int]]:
    """Yield series, begin and end of runs of buckets with small gaps: a query each."""
    first = last = buckets[0]
    for bucket in buckets[1:]:
        if bucket[0] != last[0] or bucket[1] - last[1] > GAP * length:
            yield first[0], first[1], last[1] + length
            first = bucket
        last = bucket
    yield first[0], first[1], last[1] + length
