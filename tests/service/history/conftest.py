"""An empty history on SQLite and on PostgreSQL, for every test that takes ``database``."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from service.history.database import Database, sqlite_url
from tests.service.history.histories import Batch, insert_batches
from tests.service.history.postgres import Postgres, programs

TEMPLATE = "history_template"
# The same once more on PostgreSQL takes long; those of outages and durability ask it in any case.
BACKENDS = ("sqlite", pytest.param("postgresql", marks=pytest.mark.slow))
_numbers = itertools.count()


class MakeUrl(Protocol):
    def __call__(self, *, tables: bool = True) -> str: ...


MakeDatabase = Callable[[], Database]
Filled = Callable[[Iterable[Batch]], Database]


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


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of SQLite that holds the tables to copy from; making them takes many writes."""
    folder = tmp_path_factory.mktemp("template")
    _migrated(sqlite_url(folder))
    (file,) = folder.iterdir()  # whoever closes last leaves everything in it
    return file


@pytest.fixture(scope="module", params=BACKENDS)
def filled(
    request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Filled]:
    """Makes databases that hold batches, for all tests of a module that only ask."""
    with ExitStack() as made:

        def make(batches: Iterable[Batch]) -> Database:
            if request.param == "sqlite":
                folder = tmp_path_factory.mktemp("filled")
                shutil.copy(template, folder)
                url = sqlite_url(folder)
            else:
                url = made.enter_context(created(request.getfixturevalue("postgres")))
            database = Database(url)
            made.callback(database.close)
            insert_batches(database, batches)
            return database

        yield make


@pytest.fixture(params=BACKENDS)
def make_url(request: pytest.FixtureRequest, template: Path, tmp_path: Path) -> Iterator[MakeUrl]:
    """Makes databases with empty tables, or without any, and returns their addresses."""
    with ExitStack() as made:

        def make(*, tables: bool = True) -> str:
            if request.param == "sqlite":
                folder = tmp_path / f"history-{next(_numbers)}"
                folder.mkdir()
                if tables:
                    shutil.copy(template, folder)
                return sqlite_url(folder)
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


def _migrated(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.close()


@contextmanager
def created(server: Postgres, template: str = TEMPLATE) -> Iterator[str]:
    """Return the address of a database that goes with the block."""
    name = f"history_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.url(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")
