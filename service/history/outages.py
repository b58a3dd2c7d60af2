"""Which errors of a database are outages: they pass, and whoever asked may come again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection

from service.errors import HistoryUnavailable

RETRY_AFTER_S: Final = 5
REPLICA: Final = "25006"  # PostgreSQL: it may be read only
# SQLite calls everything an operational error, a misspelt column too: here is what does pass.
SQLITE_OUTAGES: Final = ("BUSY", "LOCKED", "FULL", "IOERR", "CANTOPEN", "PROTOCOL")
SQLITE_REPLICA: Final = "READONLY"


@contextmanager
def outages(*, writing: bool) -> Iterator[None]:
    """Raise HistoryUnavailable for an outage in the block; its cause is the error itself.

    Args:
        writing: to be refused as one who may only read is an outage too.
    """
    try:
        yield
    except SQLAlchemyError as error:
        if not is_outage(error, writing=writing):
            raise
        raise HistoryUnavailable(
            f"the history's database does not answer: try again in {RETRY_AFTER_S} s",
            retry_after_s=RETRY_AFTER_S,
        ) from error


def is_outage(error: BaseException | None, *, writing: bool) -> bool:
    """Tell whether the database is what fails, not what was asked of it."""
    while error is not None:
        if isinstance(error, NoConnection):
            return True
        if isinstance(error, DBAPIError) and _is_outage(error, writing=writing):
            return True
        error = error.__context__  # undoing may fail because of what made it necessary
    return False


def is_busy(error: DBAPIError) -> bool:
    """Tell whether somebody else holds what was asked of SQLite."""
    return getattr(error.orig, "sqlite_errorname", "").startswith("SQLITE_BUSY")


def _is_outage(error: DBAPIError, *, writing: bool) -> bool:
    name: str | None = getattr(error.orig, "sqlite_errorname", None)
    if name is not None:
        passing = (*SQLITE_OUTAGES, SQLITE_REPLICA) if writing else SQLITE_OUTAGES
        return name.removeprefix("SQLITE_").startswith(passing)
    lost = error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    return lost or (writing and getattr(error.orig, "sqlstate", None) == REPLICA)
