"""Statements whose text is made once.

To describe forty columns, and find their text among those known, takes longer than to store them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, Insert, Update
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg

DIALECTS: Final = {
    "sqlite": sqlite.dialect(),
    "postgresql": psycopg.dialect(),  # type: ignore[no-untyped-call]
}


class Prepared:
    """A statement that returns nothing, for many rows at once, of values that drivers understand.

    Args:
        statements: the same in each dialect.
        columns: what each row gives, by the names of columns or of bound parameters.
    """

    def __init__(
        self, statements: Mapping[str, Insert | Update], columns: Iterable[str] = ()
    ) -> None:
        keys = list(columns)
        self._texts: dict[str, str] = {}
        self._orders: dict[str, Sequence[str] | None] = {}  # where parameters have places
        for name, statement in statements.items():
            compiled = statement.inline().compile(dialect=DIALECTS[name], column_keys=keys)
            self._texts[name] = str(compiled)
            self._orders[name] = compiled.positiontup

    def run(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """Run it for each of one row or more."""
        name = connection.dialect.name
        order = self._orders[name]
        if order is None:
            connection.exec_driver_sql(self._texts[name], [dict(row) for row in rows])
        else:
            connection.exec_driver_sql(
                self._texts[name], [tuple(row[each] for each in order) for row in rows]
            )
