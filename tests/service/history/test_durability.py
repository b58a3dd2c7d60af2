"""What was answered is there, whatever is killed; and it is there once."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import wait

import pytest
from sqlalchemy import select

from service.history.database import Database
from service.history.sums import from_columns
from service.history.tables import dirty, project
from service.history.times import MINUTE, floor
from tests.service.harness import PATIENCE_S
from tests.service.history.conftest import created
from tests.service.history.postgres import Postgres
from tests.service.history.recording_child import (
    CORRECTED,
    THREADS,
    gets_labels,
    record_until_killed,
)
from tests.service.history.samples import batches, entry, sums

NUMBERS = 4000
KILLS = 20

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([record_until_killed.__module__])

pytestmark = pytest.mark.timeout(600)


class Child:
    """A process that records, and what it has told so far."""

    def __init__(self, url: str, seed: int) -> None:
        self.telling, told = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(
            target=record_until_killed, args=(url, seed, NUMBERS, told), daemon=True
        )
        self._process.start()
        told.close()
        self._heard = b""
        listen([self], lambda: self._heard.startswith(b"0 started\n"))

    @property
    def told(self) -> list[tuple[int, str]]:
        """What it was answered, in that order."""
        whole = self._heard[: self._heard.rfind(b"\n") + 1].decode().splitlines()
        return [(int(number), what) for number, what in map(str.split, whole[1:])]

    def hear(self) -> bool:
        """Wait for more of what it tells; return whether there was more."""
        part = os.read(self.telling.fileno(), 1 << 16)
        self._heard += part
        return bool(part)

    def killed(self) -> set[tuple[int, str]]:
        """Kill it; return all that it had been answered."""
        self._process.kill()
        self._process.join()
        assert self._process.exitcode == -signal.SIGKILL
        while self.hear():
            pass
        self.telling.close()
        return set(self.told)


def listen(children: list[Child], enough: Callable[[], bool]) -> None:
    """Wait for what children tell until it is enough."""
    last = time.monotonic() + PATIENCE_S
    by_pipe: dict[object, Child] = {child.telling: child for child in children}
    while not enough():
        ready = wait([child.telling for child in children], timeout=max(0, last - time.monotonic()))
        told = [len(child.told) for child in children]
        assert ready, f"within {PATIENCE_S:.0f} s the processes were answered {told} times"
        for pipe in ready:
            assert by_pipe[pipe].hear(), f"a process ended by itself, after {told} answers"


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


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_and_nothing_twice(database_url: str) -> None:
    draw = random.Random(11)  # noqa: S311
    told: set[tuple[int, str]] = set()
    for seed in range(KILLS):
        child = Child(database_url, 100 * seed)
        answers = draw.randrange(20)
        listen([child], lambda: len(child.told) >= answers)  # noqa: B023
        time.sleep(draw.uniform(0, 0.05))  # so that not every kill comes just after an answer
        told |= child.killed()
    database = Database(database_url)
    check(database, told)
    if database.is_sqlite:
        with database.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert not connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    database.close()
    assert len(told) > 50


def test_processes_that_record_the_same_store_it_once(database_url: str) -> None:
    one, other = (Child(database_url, 7) for _ in range(2))  # one seed: the same batches
    listen([one, other], lambda: len(set(one.told) & set(other.told)) > 10)
    told = [one.killed(), other.killed()]
    assert len(told[0] & told[1]) > 10
    database = Database(database_url)
    check(database, told[0] | told[1])
    database.close()


def test_a_server_that_crashes_keeps_what_was_answered(postgres: Postgres) -> None:
    with created(postgres) as url:
        child = Child(url, 5)
        listen([child], lambda: len(child.told) > 10)
        postgres.stop(signal.SIGQUIT)  # at once, without a checkpoint
        while wait([child.telling], timeout=0):
            assert child.hear()
        before = len(child.told)
        postgres.start()
        # It goes on by itself. Every thread may yet tell of one answer from before.
        listen([child], lambda: len(child.told) > before + THREADS + 10)
        told = child.killed()
        database = Database(url)
        check(database, told)
        database.close()
