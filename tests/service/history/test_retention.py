"""What is too old goes, whole days of it; nothing else does."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert, select

from service.history import retention
from service.history.database import Database
from service.history.recorder import Recorder, RecorderLimits
from service.history.retention import oldest_kept
from service.history.sweeper import Sweeper
from service.history.tables import annotation, batch, dirty, project, rollup, series
from service.history.tables import pending as pending_table
from service.history.times import DAY, HOUR, LEVELS, MINUTE, floor
from tests.service.harness import until
from tests.service.history.samples import NOON, contents, entry, sums, waiting
from tests.service.history.starting import Lines, logger, recording

pytestmark = pytest.mark.anyio

DAYS = 3
NOW = NOON + HOUR
OLDEST = floor(NOW, DAY) - DAYS * DAY
KEEP = RecorderLimits(retention_days=0)


@pytest.fixture
async def recorder(database: Database) -> AsyncIterator[Recorder]:
    async with recording(database, KEEP, now=NOW) as started:
        yield started


async def fill(recorder: Recorder, database: Database) -> None:
    """Record around the limit, two series, with rollups and annotations as they may lie there."""
    for at, time in enumerate((OLDEST - 9 * DAY, OLDEST - 1, OLDEST, OLDEST + MINUTE, NOON)):
        new = [entry(at * 10 + n, event_time=time, tags={"n": str(n % 2)}) for n in range(4)]
        kept = entry(at * 10 + 9, event_time=time, kept=waiting())
        outcomes = await recorder.record([*new, kept])
        with database.writing() as connection:
            named = select(series.c.id).where(series.c.name.in_({each.series for each in outcomes}))
            for series_id in connection.execute(named).scalars().all():
                rows = [
                    {"series_id": series_id, "length": length, "start": floor(time, length)}
                    for length in LEVELS
                ]
                stored = {"revision": 1, "pending": False, **sums(at).columns()}
                there = select(rollup.c.start).where(
                    rollup.c.series_id == series_id, rollup.c.start == floor(time, DAY)
                )
                fresh = connection.execute(there).first() is None
                for row in rows if fresh else rows[:1]:
                    connection.execute(insert(rollup).values(**row, **stored))
            note = {"project_id": 1, "time": time, "kind": "note", "text": "seen"}
            connection.execute(insert(annotation), note)


def times_left(database: Database) -> dict[str, list[int]]:
    wanted = {
        "batch": batch.c.event_time,
        "rollup": rollup.c.start,
        "dirty": dirty.c.start,
        "annotation": annotation.c.time,
    }
    with database.reading() as connection:
        return {
            name: sorted(connection.execute(select(column)).scalars())
            for name, column in wanted.items()
        }


def test_whole_days_are_kept() -> None:
    assert oldest_kept(NOW, 0) is None
    assert oldest_kept(floor(NOW, DAY), 1) == oldest_kept(floor(NOW, DAY) + DAY - 1, 1)
    assert oldest_kept(NOW, DAYS) == OLDEST


@pytest.mark.parametrize("at_once", [2, 500])
async def test_what_is_older_goes(
    recorder: Recorder, database: Database, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(retention, "REMOVED_AT_ONCE", at_once)
    await fill(recorder, database)
    before = times_left(database)
    await Sweeper(database, recorder, days=DAYS, log=logger([]), clock=lambda: NOW).sweep()
    after = times_left(database)
    assert after == {name: [t for t in times if t >= OLDEST] for name, times in before.items()}
    assert all(len(after[name]) < len(before[name]) for name in before)
    with database.reading() as connection:
        assert len(connection.execute(select(pending_table.c.batch_key)).all()) == 3


async def test_whoever_asks_again_learns_of_it(recorder: Recorder, database: Database) -> None:
    await fill(recorder, database)
    await recorder.record([entry(1, project="farm")])
    wanted = select(project.c.name, project.c.revision)

    def revisions() -> dict[str, int]:
        with database.reading() as connection:
            return {row.name: row.revision for row in connection.execute(wanted)}

    before = revisions()
    sweeper = Sweeper(database, recorder, days=DAYS, log=logger([]), clock=lambda: NOW)
    await sweeper.sweep()
    after = revisions()
    assert after["zoo"] > before["zoo"]
    assert after["farm"] == before["farm"]
    await sweeper.sweep()
    assert revisions() == after


async def test_all_is_kept_where_nobody_says_how_long(
    recorder: Recorder, database: Database
) -> None:
    await fill(recorder, database)
    before = contents(database)
    await Sweeper(database, recorder, days=0, log=logger([]), clock=lambda: NOW).sweep()
    assert contents(database) == before


async def test_it_happens_in_the_background_and_goes_on_after_an_error(
    recorder: Recorder, database: Database
) -> None:
    await fill(recorder, database)
    lines: Lines = []
    rounds = iter([0, NOW])

    def clock() -> int:
        return next(rounds, NOW) or 1 // 0

    sweeper = Sweeper(
        database, recorder, days=DAYS, log=logger(lines), interval_s=0.01, clock=clock
    )
    sweeper.start()
    await asyncio.to_thread(until, lambda: min(times_left(database)["batch"]) >= OLDEST)
    await sweeper.stop()
    assert min(times_left(database)["batch"]) >= OLDEST
    assert [line["event"] for line in lines] == ["sweep failed"]
