"""The database: SQLite in a file, or PostgreSQL. One kind of transaction to read, one to write."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL

BUSY_S: Final = 30.0


def sqlite_url(folder: Path) -> str:
    """Return the address of the database that lies in a folder."""
    return f"sqlite:///{folder.resolve() / 'history.sqlite3'}"


class Database:
    """Hands out connections.

    Args:
        url: ``sqlite:///path`` or ``postgresql://...``.

    Raises:
        sqlalchemy.exc.ArgumentError: the address is none.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self._readers = _sqlite(parsed, begin="BEGIN")
            self._writers = _sqlite(parsed, begin="BEGIN IMMEDIATE")
        else:
            parsed = parsed.set(drivername="postgresql+psycopg")
            self._readers = create_engine(
                parsed,
                isolation_level="REPEATABLE READ",
                pool_pre_ping=True,
                execution_options={"postgresql_readonly": True},
            )
            self._writers = create_engine(parsed, pool_pre_ping=True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that sees the database as it is now, whatever is written meanwhile."""
        with self._readers.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that is durable once the block is left, and undone by an exception."""
        with self._writers.begin() as connection:
            yield connection

    @property
    def writers(self) -> Engine:
        """What opens writing connections, for migrations."""
        return self._writers

    def close(self) -> None:
        """Close all connections."""
        self._readers.dispose()
        self._writers.dispose()


def _sqlite(url: URL, *, begin: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _: Any) -> None:  # noqa: ANN401  (SQLAlchemy's)
        # The driver's own transactions begin late and without asking; see "begin" below.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",  # who reads never waits for who writes
            "synchronous=FULL",  # what is committed survives a power cut
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-65536",  # KiB
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begins(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
