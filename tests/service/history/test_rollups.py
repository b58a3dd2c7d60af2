"""Rollups: the same history, the same bytes, in whatever order it came."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, event, insert, select, update

from service.errors import UnknownProject
from service.history import rollups, tables, times
from service.history.database import Database, sqlite_url
from service.history.rollups import COLUMNS, Refresher, refresh, refresh_all, view
from service.history.sums import SCALARS, from_columns
from tests.service.harness import until
from tests.service.history.histories import (
    START,
    Batch,
    history,
    insert_batches,
    simulated,
    sums_of,
)
from tests.service.history.merging import merge
from tests.service.history.postgres import Postgres


def stored(database: Database) -> list[tuple[Any, ...]]:
    """Return all rollups, with what names their series in place of its key."""
    rollup, series = tables.rollup.c, tables.series.c
    query = select(
        series.model_version, rollup.length, rollup.start, *(rollup[name] for name in COLUMNS)
    ).join(tables.series, series.id == rollup.series_id)
    with database.reading() as connection:
        return sorted(tuple(row) for row in connection.execute(query))


def dirty(database: Database) -> int:
    with database.reading() as connection:
        return len(connection.execute(select(tables.dirty)).all())


def same_moment() -> list[Batch]:
    generator = np.random.default_rng(5)
    return [
        Batch(name, START + 7, simulated(generator, 9), "v1")
        for name in ("b", "a", "B", "ä", "Z", "a/1", "10", "9")
    ]


@pytest.mark.slow
def test_a_shuffled_history_gives_the_same_bytes(database: Database) -> None:
    batches = [*history(minutes=70, rows=12), *same_moment()]
    insert_batches(database, batches)
    refresh_all(database)
    whole = stored(database)
    with database.writing() as connection:
        for table in (tables.rollup, tables.dirty, tables.batch):
            connection.execute(delete(table))
    batches = [batches[each] for each in np.random.default_rng(0).permutation(len(batches))]
    for begin in range(0, len(batches), 50):
        insert_batches(database, batches[begin : begin + 50])
        if begin % 100 == 0:
            refresh_all(database)
    refresh_all(database)
    assert stored(database) == whole
    assert dirty(database) == 0


def test_both_databases_hold_the_same_bytes(database: Database, tmp_path: Path) -> None:
    other = Database(f"sqlite:///{tmp_path / 'other.sqlite3'}")
    other.migrate()
    for each in (database, other):
        insert_batches(each, [*history(minutes=20, rows=12), *same_moment()])
        refresh_all(each)
    assert stored(database) == stored(other)
    other.close()


def test_the_language_of_a_database_alters_no_byte(postgres: Postgres, tmp_path: Path) -> None:
    """In English `a` comes before `B`, and in bytes it does not."""
    english = "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
    postgres.execute(f"CREATE DATABASE english {english}")
    try:
        databases = [Database(postgres.url("english")), Database(sqlite_url(tmp_path))]
        for each in databases:
            each.migrate()
            insert_batches(each, same_moment())
            refresh_all(each)
        assert stored(databases[0]) == stored(databases[1])
        for each in databases:
            each.close()
    finally:
        postgres.execute("DROP DATABASE english WITH (FORCE)")


def test_every_level_is_the_merged_sums_of_its_batches(database: Database) -> None:
    batches = history(minutes=130, versions=("v1",), rows=12)
    insert_batches(database, batches)
    refresh_all(database)
    with database.reading() as connection:
        rows = connection.execute(select(tables.rollup)).mappings().all()
    assert {row["length"] for row in rows} == set(times.LEVELS)
    for row in rows:
        members = [
            sums_of(each)
            for each in sorted(batches, key=lambda each: (each.time, each.batch_id))
            if row["start"] <= each.time < row["start"] + row["length"]
        ]
        merged, found = merge(members), from_columns(dict(row))
        for name in SCALARS:
            assert getattr(found, name) == pytest.approx(getattr(merged, name), rel=1e-12)
        assert found.histogram.tobytes() == merged.histogram.tobytes()
        assert found.classes["support"].tolist() == merged.classes["support"].tolist()
        assert found.sketch.tobytes() == merged.sketch.tobytes()
        assert found.hardest == merged.hardest
        assert row["revision"] == len(members)


def test_a_bucket_without_batches_is_gone(database: Database) -> None:
    first, second = history(minutes=2, versions=("v1",), rows=5)[::2]
    insert_batches(database, [first, second])
    refresh_all(database)
    with database.writing() as connection:
        gone = tables.batch.c.batch_id == second.batch_id
        connection.execute(delete(tables.batch).where(gone))
        start = times.floor(second.time, times.MINUTE)
        connection.execute(tables.dirty.insert().values(series_id=1, start=start))
    refresh_all(database)
    minutes = [row for row in stored(database) if row[1] == times.MINUTE]
    assert [row[2] for row in minutes] == [times.floor(first.time, times.MINUTE)]
    (day,) = (row for row in stored(database) if row[1] == times.DAY)
    assert day[3 + COLUMNS.index("rows")] == sums_of(first).rows


def test_a_correction_alters_its_buckets_and_no_other(database: Database) -> None:
    batches = history(minutes=70, versions=("v1",), rows=5)
    insert_batches(database, batches)
    refresh_all(database)
    before = {row[:3]: row for row in stored(database)}
    changed = batches[30]
    with database.writing() as connection:
        of = tables.batch.c.batch_id == changed.batch_id
        connection.execute(update(tables.batch).where(of).values(revision=2, loss_sum=1e6))
        start = times.floor(changed.time, times.MINUTE)
        connection.execute(tables.dirty.insert().values(series_id=1, start=start))
        assert not refresh(connection)
    altered = [row for row in stored(database) if row != before[row[:3]]]
    assert [row[1] for row in altered] == list(times.LEVELS)
    for row in altered:
        assert row[2] == times.floor(changed.time, row[1])
        assert row[3 + COLUMNS.index("loss_sum")] > 9e5


def test_transactions_are_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    insert_batches(database, history(minutes=30, rows=5))
    monkeypatch.setattr(rollups, "PAGE", 4)
    with database.writing() as connection:
        assert refresh(connection, most=7)
    assert dirty(database) == 60 - 7
    with database.writing() as connection:
        while refresh(connection, most=7):
            pass
    refresh_all(database)
    small = stored(database)
    monkeypatch.undo()
    with database.writing() as connection:
        connection.execute(delete(tables.rollup))
        found = select(tables.batch.c.series_id, tables.batch.c.event_time)
        minutes = {
            (series, times.floor(time, times.MINUTE)) for series, time in connection.execute(found)
        }
        connection.execute(
            tables.dirty.insert(), [{"series_id": key, "start": start} for key, start in minutes]
        )
    refresh_all(database)
    assert stored(database) == small


def test_a_project_is_rebuilt_alone(database: Database) -> None:
    mine = history(minutes=3, versions=("v1",), rows=5)
    theirs = [Batch(each.batch_id, each.time, each.rows, "v1", project="other") for each in mine]
    insert_batches(database, [*mine, *theirs])
    with view(database, "other") as other:
        found = other.connection.execute(select(tables.rollup.c.series_id).distinct()).all()
    assert found == [(2,)]
    assert dirty(database) == 3


def test_an_unknown_project_is_none(database: Database) -> None:
    with pytest.raises(UnknownProject, match="nothing was recorded"), view(database, "p"):
        pass


@pytest.mark.slow
def test_a_view_holds_what_its_revision_says_while_others_write(database: Database) -> None:
    """Whoever sees a revision sees every batch up to it, and no batch twice or in part."""
    batches = history(minutes=60, rows=5)
    rows = {number + 1: sums_of(each).rows for number, each in enumerate(batches)}
    insert_batches(database, batches[:1])
    found: list[tuple[int, int]] = []

    def write() -> None:
        for each in batches[1:]:
            insert_batches(database, [each])

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        with view(database, "p") as seen:
            day = tables.rollup.c
            days = select(day.rows).where(day.length == times.DAY)
            found.append((seen.revision, sum(seen.connection.execute(days).scalars())))
    writer.join()
    assert found
    for revision, total in found:
        upto = sum(rows[number] for number in range(1, revision + 1))
        # Behind a writer that never rests, a view may hold more than it says, never less.
        assert total >= upto
    with view(database, "p") as seen:
        assert seen.revision == len(batches)
    assert dirty(database) == 0


def test_two_may_rebuild_at_once(database: Database) -> None:
    insert_batches(database, history(minutes=40, rows=5))
    threads = [threading.Thread(target=refresh_all, args=(database,)) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert dirty(database) == 0
    lengths = [row[1] for row in stored(database)]
    assert lengths.count(times.MINUTE) == 80


def test_the_background_rebuilds_and_outlives_what_the_database_refuses(
    database: Database,
) -> None:
    told: list[Exception] = []
    refresher = Refresher(database, interval_s=0.01, report=told.append)
    with database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE dirty RENAME TO hidden")
    refresher.start()
    until(lambda: told)
    with database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE hidden RENAME TO dirty")
    insert_batches(database, history(minutes=3, rows=5))
    until(lambda: dirty(database) == 0)
    refresher.stop()
    assert stored(database)


def test_the_background_leaves_the_minute_that_runs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = times.now()
    turns: list[None] = []

    def clock() -> int:  # stands still: no minute ends here; every turn looks at it
        turns.append(None)
        return now

    monkeypatch.setattr(times, "now", clock)
    insert_batches(database, history(minutes=3, rows=5))
    (series_id,) = {row[0] for row in stored(database)} or {1}
    running = {"series_id": series_id, "start": times.floor(now, times.MINUTE)}
    with database.writing() as connection:
        connection.execute(insert(tables.dirty), running)
    refresher = Refresher(database, interval_s=0.01, report=lambda _: None)
    refresher.start()
    until(lambda: dirty(database) == 1)
    seen = len(turns)
    until(lambda: len(turns) > seen + 3)
    refresher.stop()
    assert dirty(database) == 1
    refresh_all(database)
    assert dirty(database) == 0


def test_rebuilding_searches_indexes(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path))
    database.migrate()
    insert_batches(database, history(minutes=30, rows=5))
    statements: list[tuple[str, Any]] = []

    def listen(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:  # noqa: ANN401
        statements.append((statement, values))

    with database.writing() as connection:
        event.listen(connection, "before_cursor_execute", listen)
        refresh(connection)
        event.remove(connection, "before_cursor_execute", listen)
        for statement, values in statements:
            if statement.startswith("SELECT") and "dirty" not in statement:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
                steps = [row[-1] for row in plan]
                assert all(step.startswith("SEARCH") for step in steps), steps
    assert len(statements) > 5
    database.close()
