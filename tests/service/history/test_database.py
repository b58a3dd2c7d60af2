"""Migrations, and the two kinds of transaction."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import DBAPIError

from service.history.database import Database, sqlite_url, url_of
from service.history.migrations import upgrade
from service.history.tables import METADATA, alert, dirty, project, series
from service.history.track import series_name
from tests.service.history.postgres import Postgres

ROOT = Path(__file__).parents[3]
MIGRATE = (
    "import sys; from service.history.database import Database; Database(sys.argv[1]).migrate()"
)

# What was recorded before series had names.
BEFORE_NAMES = (
    "INSERT INTO project (id, name, revision) VALUES (1, 'zoo', 1)",
    "INSERT INTO label_schema (id, project_id, name, version, digest, classes) "
    "VALUES (1, 1, 'animals', 1, 'beef', '[]')",
    "INSERT INTO series (id, project_id, model, model_version, variant, family, settings_hash, "
    "settings, label_schema_id, tags, tags_hash) VALUES "
    "(1, 1, 'eyes', '1', 'sparse', 'softmax', '00ff', '{}', 1, '{}', 'a'), "
    "(2, 1, 'eyes', '1', 'sparse', 'softmax', '00ff', '{}', 1, '{\"site\":\"Zürich\"}', 'b')",
    "INSERT INTO dirty (series_id, start) VALUES (2, 0)",
)


# What rules selected while versions of label schemas were numbers.
BEFORE_VERSIONS = (
    "INSERT INTO project (id, name, revision) VALUES (1, 'zoo', 1), (2, 'farm', 1)",
    "INSERT INTO label_schema (id, project_id, name, version, digest, classes) "
    "VALUES (1, 1, 'animals', 1, '0123456789abcdef', '[]'), "
    "(2, 1, 'animals', 2, 'fedcba9876543210', '[]'), (3, 2, 'animals', 1, 'beefbeefbeef', '[]')",
)
SELECTED = [["animals@2", "animals"], ["animals@1", "animals@3"], ["animals@2"], []]
RENAMED = [["animals@fedcba98", "animals"], ["animals@01234567", "animals@3"], ["animals@2"], []]


def names(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(connection.execute(select(project.c.name).order_by(project.c.id)).scalars())


def test_the_history_lies_in_the_data_directory_where_nobody_says_otherwise(tmp_path: Path) -> None:
    assert url_of(None, tmp_path) == f"sqlite:///{tmp_path}/history.sqlite3"
    assert url_of(SecretStr("postgresql://db/xent"), tmp_path) == "postgresql://db/xent"


def test_migrations_make_the_tables_that_the_code_names(database: Database) -> None:
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_a_difference_would_be_found(database: Database) -> None:
    with database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE batch ADD COLUMN more INTEGER")
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA)


def test_series_that_are_there_get_the_names_that_the_code_gives(empty_url: str) -> None:
    database = Database(empty_url)
    with database.writing() as connection:
        upgrade(connection, "0001")
        for statement in BEFORE_NAMES:
            connection.exec_driver_sql(statement)
    database.migrate()
    with database.reading() as connection:
        found = {row.tags: row.name for row in connection.execute(select(series))}
        assert connection.scalar(select(func.count()).select_from(dirty)) == 1
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    assert found == {
        tags: series_name("zoo", "eyes", "1", "sparse", "00ff", "animals", "beef", tags)
        for tags in ("{}", '{"site":"Zürich"}')
    }
    database.close()


def test_rules_name_versions_of_label_schemas_after_their_classes(empty_url: str) -> None:
    database = Database(empty_url)
    with database.writing() as connection:
        upgrade(connection, "0002")
        for statement in BEFORE_VERSIONS:
            connection.exec_driver_sql(statement)
        for key, selected in enumerate(SELECTED):
            selection = {"label_schema": selected, "tags": {"site": "Zürich"}}
            rule = json.dumps({"name": f"r{key}", "selection": selection})
            project_id = 2 if key == 2 else 1
            row = {"id": key + 1, "project_id": project_id, "name": f"r{key}", "rule": rule}
            same = {"created": 0, "state": "no_data", "since": 0, "detail": "{}"}
            connection.execute(insert(alert).values(**row, **same))
    database.migrate()
    with database.reading() as connection:
        rules = connection.execute(select(alert.c.rule).order_by(alert.c.id)).scalars()
        found = [json.loads(rule)["selection"] for rule in rules]
    assert [each["label_schema"] for each in found] == RENAMED
    assert all(each["tags"] == {"site": "Zürich"} for each in found)
    database.close()


@pytest.mark.slow
def test_processes_that_start_at_once_make_the_tables_once(empty_url: str) -> None:
    command = [sys.executable, "-c", MIGRATE, empty_url]
    starting = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [process.wait(timeout=60) for process in starting] == [0] * 4
    database = Database(empty_url)
    database.migrate()  # nothing is left to do
    assert names(database) == []
    database.close()


def test_tables_are_all_there_or_none(empty_url: str) -> None:
    database = Database(empty_url)
    with database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE delivery (id INTEGER)")  # in the way of the last
    with pytest.raises(DBAPIError):
        database.migrate()
    with database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE delivery")
    database.migrate()
    assert names(database) == []
    database.close()


def test_an_error_undoes_a_transaction(database: Database) -> None:
    def fail() -> None:
        with database.writing() as connection:
            connection.execute(insert(project).values(name="p", revision=0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(database) == []


def test_readers_see_the_database_as_it_was_and_change_nothing(database: Database) -> None:
    count = select(func.count()).select_from(project)
    with database.reading() as reader:
        assert reader.scalar(count) == 0
        with database.writing() as writer:
            writer.execute(insert(project).values(name="p", revision=0))
        assert reader.scalar(count) == 0
    assert names(database) == ["p"]


def test_readers_cannot_write(database: Database) -> None:
    def write() -> None:
        with database.reading() as reader:
            reader.execute(delete(project))

    with pytest.raises(DBAPIError, match=r"read-?only"):
        write()


def test_sqlite_waits_for_the_disk(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path))
    with database.writing() as connection:
        (level,) = connection.exec_driver_sql("PRAGMA synchronous").one()
        (journal,) = connection.exec_driver_sql("PRAGMA journal_mode").one()
        (keys,) = connection.exec_driver_sql("PRAGMA foreign_keys").one()
    database.close()
    assert (level, journal, keys) == (2, "wal", 1)
    assert sqlite3.sqlite_version_info >= (3, 35)  # RETURNING


def test_postgresql_waits_for_the_disk_whatever_it_was_told(postgres: Postgres) -> None:
    postgres.execute("CREATE DATABASE careless")
    postgres.execute("ALTER DATABASE careless SET synchronous_commit = off")
    postgres.execute("ALTER DATABASE careless SET default_transaction_isolation = serializable")
    database = Database(postgres.url("careless"))
    with database.writing() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"
    database.close()
    postgres.execute("DROP DATABASE careless")
