"""An empty history on SQLite and on PostgreSQL, for every test that takes ``database``."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from service.history.database import Database, sqlite_url
from tests.service.history.postgres import Postgres, programs

TEMPLATE = "history_template"
BACKENDS = ("sqlite", "postgresql")
_numbers = itertools.count()


class MakeUrl(Protocol):
    def __call__(self, *, tables: bool = True) -> str: ...


MakeDatabase = Callable[[], Database]


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
def make_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeUrl]:
    """Makes databases with empty tables, or without any, and returns their addresses."""
    with ExitStack() as made:

        def make(*, tables: bool = True) -> str:
            if request.param == "sqlite":
                folder = tmp_path / f"history-{next(_numbers)}"
                folder.mkdir()
                return _migrated(sqlite_url(folder)) if tables else sqlite_url(folder)
            server: Postgres = request.getfixturevalue("postgres")
            return made.enter_context(created(server, TEMPLATE if tables else "template0"))

        yield make


@pytest.fixture
def empty_url(make_url: MakeUrl) -> str:
    """The address of a database without tables."""
    return make_url(tables=False)


@pytest.fixture
def database_url(make_url: MakeUrl) -> str:
    """The address of a database with empty tables."""
    return make_url()


@pytest.fixture
def make_database(make_url: MakeUrl) -> Iterator[MakeDatabase]:
    """Makes databases with empty tables."""
    with ExitStack() as made:

        def make() -> Database:
            database = Database(make_url())
            made.callback(database.close)
            return database

        yield make


@pytest.fixture
def database(make_database: MakeDatabase) -> Database:
    """A database with empty tables."""
    return make_database()


def _migrated(url: str) -> str:
    database = Database(url)
    database.migrate()
    database.close()
    return url


@contextmanager
def created(server: Postgres, template: str = TEMPLATE) -> Iterator[str]:
    """Return the address of a database that goes with the block."""
    name = f"history_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.url(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")
