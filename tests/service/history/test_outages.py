"""A database that is gone, full or busy: a clear refusal, and no restart when it is back."""

import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from service.errors import HistoryUnavailable, LabelsTooLate
from service.history import database as database_module
from service.history.database import Database, sqlite_url
from service.history.recorder import RecorderLimits
from tests.service.harness import until
from tests.service.history.conftest import created
from tests.service.history.postgres import Postgres
from tests.service.history.samples import KEY, batches, entry, waiting
from tests.service.history.starting import Lines, recording

pytestmark = pytest.mark.anyio

NAME = (KEY.project, KEY.model, KEY.model_version, "batch-1")


@pytest.fixture
def server(postgres: Postgres) -> Iterator[Postgres]:
    """The server of the session, which runs again afterwards."""
    yield postgres
    if not postgres.runs:
        postgres.start()


def events(lines: Lines) -> list[str]:
    return [line["event"] for line in lines]


async def test_a_server_that_comes_back_is_used_again(server: Postgres) -> None:
    lines: Lines = []
    with created(server) as url:
        database = Database(url)
        async with recording(database, lines=lines) as recorder:
            await recorder.record([entry(1)])
            server.stop()
            for number in (2, 3):
                with pytest.raises(HistoryUnavailable, match="does not answer") as caught:
                    await recorder.record([entry(number)])
                assert caught.value.retry_after_s == 5
            with pytest.raises(HistoryUnavailable):
                await recorder.kept(*NAME)
            server.start()
            assert (await recorder.record([entry(2)]))[0].status == "created"
            with pytest.raises(LabelsTooLate):  # it answers
                await recorder.kept(*NAME)
            assert (await recorder.record([entry(1)]))[0].status == "replayed"
        assert [row["batch_id"] for row in batches(database)] == ["batch-1", "batch-2"]
        database.close()
    assert events(lines) == ["history unavailable", "history available"]


async def test_a_server_may_be_gone_at_the_start(server: Postgres) -> None:
    with created(server, "template0") as url:
        database = Database(url)
        server.stop()
        async with recording(database) as recorder:
            with pytest.raises(HistoryUnavailable):
                await recorder.record([entry(1)])
            server.start()
            assert (await recorder.record([entry(1)]))[0].status == "created"
        database.close()


async def test_tables_are_made_when_the_server_is_there_and_nobody_records(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.history.writer.RETRY_AFTER_S", 0.05)
    lines: Lines = []
    with created(server, "template0") as url:
        database = Database(url)
        server.stop()
        async with recording(database, lines=lines):
            server.start()
            until(lambda: "history available" in events(lines))
        assert batches(database) == []
        database.close()


async def test_a_transaction_that_its_server_ends_is_refused(server: Postgres) -> None:
    lines: Lines = []
    with created(server) as url:
        database = Database(url)
        async with recording(database, lines=lines) as recorder:
            crashes = iter([True])

            @event.listens_for(database._writers, "commit")
            def crash(_: object) -> None:
                if next(crashes, False):
                    server.stop(signal.SIGQUIT)

            with pytest.raises(HistoryUnavailable):
                await recorder.record([entry(1)])
            server.start()
            assert (await recorder.record([entry(1)]))[0].status == "created"
        database.close()


async def test_a_replica_takes_no_writes(server: Postgres) -> None:
    with created(server) as url:
        name = url.split("@/")[1].split("?")[0]
        database = Database(url)
        server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        async with recording(database) as recorder:
            with pytest.raises(HistoryUnavailable):
                await recorder.record([entry(1)])
            server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
            database.close()  # as when its server is replaced by another
            assert (await recorder.record([entry(1)]))[0].status == "created"
        database.close()


async def test_a_wrong_password_is_not_shown(server: Postgres) -> None:
    lines: Lines = []
    url = f"postgresql://nobody:hunter2@/nowhere?host={server.folder}"
    database = Database(url)
    async with recording(database, lines=lines) as recorder:
        with pytest.raises(HistoryUnavailable) as caught:
            await recorder.record([entry(1)])
    database.close()
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__} {lines}"
    assert "nobody" in str(lines)  # whoever runs the service learns why


async def test_a_full_disk_refuses_and_is_forgiven(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path))
    async with recording(database, RecorderLimits()) as recorder:
        await recorder.record([entry(1)])
        with database.writing() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 5}")
        with pytest.raises(HistoryUnavailable):
            await recorder.record([entry(2, kept=waiting(b"x" * 1_000_000))])
        with database.writing() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        await recorder.record([entry(2, kept=waiting(b"x" * 1_000_000))])
    assert [row["batch_id"] for row in batches(database)] == ["batch-1", "batch-2"]
    database.close()


async def test_a_writer_that_does_not_end_is_not_waited_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_S", 0.2)
    monkeypatch.setattr(
        database_module,
        "BEGIN_WRITING",
        database_module.BEGIN_WRITING.replace("'30s'", "'200ms'"),
    )
    database, other = Database(database_url), Database(database_url)
    async with recording(database) as recorder:
        with other.writing(), pytest.raises(HistoryUnavailable):
            await recorder.record([entry(1)])
        assert (await recorder.record([entry(1)]))[0].status == "created"
    database.close()
    other.close()


def test_an_error_in_what_was_asked_is_no_outage(database: Database) -> None:
    def ask() -> None:
        with database.reading() as connection:
            connection.exec_driver_sql("SELECT nothing FROM nowhere")

    with pytest.raises(DBAPIError, match="nowhere"):
        ask()


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "history.sqlite3").write_bytes(b"something else entirely" * 100)
    database = Database(sqlite_url(tmp_path))
    with pytest.raises(DBAPIError) as caught:
        database.migrate()
    assert isinstance(caught.value.orig, sqlite3.DatabaseError)
    database.close()
