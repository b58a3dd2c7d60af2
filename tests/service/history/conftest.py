"""An empty history on SQLite and on PostgreSQL, for every test that takes ``database``."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.history.database import Database, sqlite_url
from tests.service.history.postgres import Postgres, programs

TEMPLATE = "history_template"
BACKENDS = ("sqlite", "postgresql")
_numbers = itertools.count()

Address = Callable[[], str]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server of this session's own, with a database that holds the tables to copy from."""
    folder = programs()
    if folder is None:
        reason = "PostgreSQL's programs are not installed (Debian: postgresql)"
        if os.environ.get("XENT_TESTS_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    server = Postgres(folder)
    try:
        server.execute(f"CREATE DATABASE {TEMPLATE}")
        _migrated(server.url(TEMPLATE))
        yield server
    finally:
        server.remove()


@pytest.fixture(params=BACKENDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without tables."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path)
    else:
        yield from _created(request.getfixturevalue("postgres"), template="template0")


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database with empty tables."""
    if request.param == "postgresql":
        yield from _created(request.getfixturevalue("postgres"), template=TEMPLATE)
    else:
        yield _migrated(sqlite_url(tmp_path))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with empty tables."""
    database = Database(database_url)
    yield database
    database.close()


def _migrated(url: str) -> str:
    database = Database(url)
    database.migrate()
    database.close()
    return url


def _created(server: Postgres, *, template: str) -> Iterator[str]:
    name = f"history_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.url(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")
