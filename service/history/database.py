"""The database: SQLite in a file, or PostgreSQL. One kind of transaction to read, one to write."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from service.history.migrations import upgrade
from service.history.outages import is_busy, outages

BUSY_S: Final = 30.0  # how long one writer waits for another
# SQLite itself comes to look no more often than every 100 ms, and may miss for many seconds the
# moments in which one that writes without pause has just committed.
LOOK_S: Final = 0.002
PRAGMAS: Final = (
    "journal_mode=WAL",  # who reads never waits for who writes
    "synchronous=FULL",  # what is committed survives a power cut
    "foreign_keys=ON",
    "temp_store=MEMORY",
    "cache_size=-65536",  # KiB
    "journal_size_limit=67108864",  # bytes: a large transaction does not leave a large file
)
# One writer at a time, as SQLite has it: what a transaction has read stays true until it commits.
# A commit waits for the disk even where the server's own setting says otherwise.
BEGIN_WRITING: Final = f"""
    SET LOCAL lock_timeout = '{BUSY_S:.0f}s';
    SELECT set_config('synchronous_commit', 'on', true)
        WHERE current_setting('synchronous_commit') = 'off';
    SELECT pg_advisory_xact_lock({0x78656E74})
"""
# Without these a server that vanished would hold whoever asks it for hours.
PATIENCE: Final = {
    "connect_timeout": 5,  # s
    "keepalives_idle": 10,  # s
    "keepalives_interval": 5,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # ms
}


def sqlite_url(folder: Path) -> str:
    """Return the address of the database that lies in a folder."""
    return f"sqlite:///{folder.resolve() / 'history.sqlite3'}"


def url_of(address: SecretStr | None, folder: Path) -> str:
    """Return the address of a database: what the settings say, else that of a file in a folder."""
    return sqlite_url(folder) if address is None else address.get_secret_value()


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
            parsed = parsed.set(drivername="sqlite")
            self._readers = _sqlite(parsed, begin="BEGIN", pragmas=(*PRAGMAS, "query_only=ON"))
            self._writers = _sqlite(
                parsed, begin="BEGIN IMMEDIATE", pragmas=(*PRAGMAS, "busy_timeout=0")
            )
        else:
            parsed = parsed.set(drivername="postgresql+psycopg")
            self._readers = create_engine(
                parsed,
                connect_args=PATIENCE,
                hide_parameters=True,  # in messages, which are logged
                isolation_level="REPEATABLE READ",
                pool_pre_ping=True,
                execution_options={"postgresql_readonly": True},
            )
            self._writers = create_engine(
                parsed,
                connect_args=PATIENCE,
                hide_parameters=True,
                isolation_level="READ COMMITTED",
                pool_pre_ping=True,
            )

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that sees the database as it is now, whatever is written meanwhile.

        Raises:
            HistoryUnavailable: the database does not answer.
        """
        with outages(writing=False), self._readers.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that is durable once the block is left, and undone by an exception.

        There is one at a time, whichever process it is of.

        Raises:
            HistoryUnavailable: the database does not answer, or another writer does not end. Lost
                while it committed, the transaction may be durable nevertheless.
        """
        with outages(writing=True), self._writers.begin() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql(BEGIN_WRITING)
            yield connection

    def migrate(self) -> None:
        """Make the tables, or bring them up to date. Any number of processes may do so at once.

        Raises:
            HistoryUnavailable: the database does not answer.
        """
        with self.writing() as connection:
            upgrade(connection)

    def close(self) -> None:
        """Close all connections."""
        self._readers.dispose()
        self._writers.dispose()


def _sqlite(url: URL, *, begin: str, pragmas: Sequence[str]) -> Engine:
    engine = create_engine(
        url, connect_args={"timeout": BUSY_S, "check_same_thread": False}, hide_parameters=True
    )

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _: Any) -> None:  # noqa: ANN401  (SQLAlchemy's)
        # The driver's own transactions begin late and without asking; see "begin" below.
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begins(connection: Connection) -> None:
        last_s = time.monotonic() + BUSY_S
        while not _begun(connection, begin, last=time.monotonic() >= last_s):
            time.sleep(LOOK_S)

    return engine


def _begun(connection: Connection, begin: str, *, last: bool) -> bool:
    """Begin a transaction; return whether nobody else writes. Raises on the last attempt."""
    try:
        connection.exec_driver_sql(begin)
    except OperationalError as error:
        if last or not is_busy(error):
            raise
        return False
    return True
