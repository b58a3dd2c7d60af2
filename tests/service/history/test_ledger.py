"""What a transaction knows of batches between two statements."""

from service.history.database import Database
from service.history.ledger import Ledger, Stored

STORED = Stored(b"digest", "series", "{}", "schema", "digest", 1, pending=False)


def test_what_was_added_is_found_before_and_after_another_is_looked_up(database: Database) -> None:
    first, other = b"1" * 16, b"2" * 16
    with database.writing() as connection:
        ledger = Ledger(connection, [first])
        assert ledger.find(first) is None
        ledger.add(first, STORED, {}, None)
        assert ledger.find(first) == STORED
        assert ledger.find(other) is None
        assert ledger.find(first) == STORED
