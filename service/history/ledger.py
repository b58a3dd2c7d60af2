"""The batches of one transaction: looked up in one statement, stored in another.

A statement costs far more than one more row in it. So what a transaction is about to ask of the
batches that are stored it asks at once, and what it stores it stores at its end.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, insert, select

from service.history.entries import Kept
from service.history.prepared import DIALECTS, Prepared
from service.history.tables import batch, label_schema, pending, series

ASKED_AT_ONCE: Final = 500  # SQLite and PostgreSQL take so many parameters, and many more

STORED: Final = (
    select(
        batch.c.identity,
        batch.c.digest,
        series.c.name.label("series"),
        series.c.tags,
        label_schema.c.name.label("schema_name"),
        label_schema.c.digest.label("schema_digest"),
        batch.c.revision,
        batch.c.pending,
    )
    .select_from(batch.join(series).join(label_schema))
    .where(batch.c.identity.in_(bindparam("identities", expanding=True)))
)
ADDED: Final = Prepared(
    dict.fromkeys(DIALECTS, insert(batch)), [each.name for each in batch.c if each.name != "id"]
)
# By identity: which key a row got is the database's to know.
WAITS: Final = insert(pending).from_select(
    ["batch_key", "expires_at", "path", "media_type", "body"],
    select(
        batch.c.id,
        *(
            bindparam(each.name, type_=each.type)
            for each in pending.c
            if each.name in Kept.__slots__
        ),
    ).where(batch.c.identity == bindparam("identity")),
)


class Stored(NamedTuple):
    """What is known of a batch that is stored, or will be at the transaction's end.

    Attributes:
        digest: of its request.
        series: the name of its series.
        tags: of the series, as they are stored.
        schema_name, schema_digest: of its label schema.
        revision, pending: of the batch.
    """

    digest: bytes
    series: str
    tags: str
    schema_name: str
    schema_digest: str
    revision: int
    pending: bool


class Ledger:
    """Knows the batches that a transaction asks about, and keeps those that it adds.

    Args:
        connection: on which the transaction is open.
        expected: identities that will be asked about: they are looked up together.
    """

    def __init__(self, connection: Connection, expected: Iterable[bytes] = ()) -> None:
        self._connection = connection
        self._expected = frozenset(expected)
        self._known: dict[bytes, Stored | None] = {}
        self._rows: list[Mapping[str, object]] = []
        self._waiting: list[Mapping[str, object]] = []

    def find(self, identity: bytes) -> Stored | None:
        """Return what is known of a batch, ``None`` where there is none."""
        if identity not in self._known:
            # But what is known: the database knows nothing of what was added and is not stored.
            self._look_up((self._expected | {identity}) - self._known.keys())
        return self._known[identity]

    def add(
        self, identity: bytes, stored: Stored, row: Mapping[str, object], kept: Kept | None
    ) -> None:
        """Add a batch that was not found.

        Args:
            identity: of the batch.
            stored: what is found of it from now on.
            row: the rest of its columns.
            kept: what waits for its labels.
        """
        self._known[identity] = stored
        self._rows.append({"identity": identity, **row})
        if kept is not None:
            columns = {name: getattr(kept, name) for name in Kept.__slots__}
            self._waiting.append({"identity": identity, **columns})

    def settle(self) -> None:
        """Store what was added, and forget what is known: other statements may change it."""
        if self._rows:
            ADDED.run(self._connection, self._rows)
        if self._waiting:
            self._connection.execute(WAITS, self._waiting)
        self._known.clear()
        self._rows.clear()
        self._waiting.clear()

    def _look_up(self, identities: Iterable[bytes]) -> None:
        wanted = iter(identities)
        while some := list(islice(wanted, ASKED_AT_ONCE)):
            self._known |= dict.fromkeys(some)
            found = self._connection.execute(STORED, {"identities": some})
            self._known |= {identity: Stored(*rest) for identity, *rest in found}
