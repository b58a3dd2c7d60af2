"""What was answered is there, whatever is killed; and it is there once."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from sqlalchemy import select

from service.history.database import Database
from service.history.sums import from_columns
from service.history.tables import dirty, project
from service.history.times import MINUTE, floor
from tests.service.history.conftest import created
from tests.service.history.postgres import Postgres
from tests.service.history.recording_child import CORRECTED, gets_labels, record_until_killed
from tests.service.history.samples import batches, entry, sums

NUMBERS = 4000
KILLS = 20

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([record_until_killed.__module__])


def started(url: str, seed: int) -> tuple[ForkServerProcess, Connection]:
    """Return a process that records, and what it tells."""
    telling, told = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(
        target=record_until_killed, args=(url, seed, NUMBERS, told), daemon=True
    )
    child.start()
    told.close()
    assert os.read(telling.fileno(), 10) == b"0 started\n"
    return child, telling


def answered(telling: Connection) -> set[tuple[int, str]]:
    """Return all that a process told before its end."""
    parts = []
    while part := os.read(telling.fileno(), 1 << 16):
        parts.append(part)
    telling.close()
    lines = b"".join(parts).decode().splitlines()
    return {(int(number), what) for number, what in map(str.split, lines)}


def killed(child: ForkServerProcess, telling: Connection, after_s: float) -> set[tuple[int, str]]:
    """Kill a process; return what it had been answered."""
    time.sleep(after_s)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    return answered(telling)


def check(database: Database, told: set[tuple[int, str]]) -> None:
    """Check that all that was answered is there, once, whole and marked."""
    rows = {int(row["batch_id"].removeprefix("batch-")): row for row in batches(database)}
    assert set(Counter(row["batch_id"] for row in batches(database)).values()) == {1}
    assert {number for number, _ in told} <= rows.keys()
    assert {number for number, what in told if what == "corrected"} <= {
        number for number, row in rows.items() if row["revision"] == 2
    }
    for number, row in rows.items():
        corrected = row["revision"] == 2
        expected = sums(CORRECTED + number if corrected else number)
        assert from_columns(row).columns() == expected.columns()
        assert row["revision"] in ((1, 2) if gets_labels(number) else (1,))
        assert row["pending"] == (gets_labels(number) and not corrected)
        assert row["event_time"] == entry(number).event_time
    with database.reading() as connection:
        marked = set(connection.execute(select(dirty.c.start)).scalars())
        revision = connection.execute(select(project.c.revision)).scalar_one()
    assert marked == {floor(row["event_time"], MINUTE) for row in rows.values()}
    assert revision <= sum(row["revision"] for row in rows.values())


def test_killed_at_any_moment_nothing_is_lost_and_nothing_twice(database_url: str) -> None:
    draw = random.Random(11)  # noqa: S311
    told: set[tuple[int, str]] = set()
    for seed in range(KILLS):
        child, telling = started(database_url, 100 * seed)
        told |= killed(child, telling, draw.uniform(0, 0.25))
    database = Database(database_url)
    check(database, told)
    if database.is_sqlite:
        with database.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert not connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    database.close()
    assert len(told) > 50


def test_processes_that_record_the_same_store_it_once(database_url: str) -> None:
    children = [started(database_url, 7) for _ in range(2)]  # one seed: the same batches
    time.sleep(0.6)
    told = [killed(child, telling, 0) for child, telling in children]
    assert len(told[0] & told[1]) > 10
    database = Database(database_url)
    check(database, told[0] | told[1])
    database.close()


def test_a_server_that_crashes_keeps_what_was_answered(postgres: Postgres) -> None:
    with created(postgres) as url:
        child, telling = started(url, 5)
        time.sleep(0.3)
        postgres.stop(signal.SIGQUIT)  # at once, without a checkpoint
        postgres.start()
        time.sleep(0.3)
        told = killed(child, telling, 0)  # it has gone on by itself meanwhile
        database = Database(url)
        check(database, told)
        database.close()
