"""Alembic's migrations: how the tables came to be what :mod:`service.history.tables` says."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations that a database has not seen, in the transaction that is open.

    Args:
        connection: to the database.
        revision: the last that is run.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
