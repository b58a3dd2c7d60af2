"""Batches: stored once, found again when they are sent again, told from others of their name."""

import math
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select

from service.errors import BatchConflict, Fault, SchemaMismatch, SumsOverflow, TooOld
from service.history import times
from service.history.catalogue import POINTER, Catalogue, Place
from service.history.changes import Changes
from service.history.entries import Entry, Outcome
from service.history.sums import Sums
from service.history.tables import batch, label_schema, pending, series
from service.history.track import classes_digest, identity

STORED: Final = (
    select(
        series.c.name.label("series"),
        batch.c.digest,
        batch.c.revision,
        batch.c.pending,
        series.c.tags,
        label_schema.c.name.label("schema_name"),
        label_schema.c.digest.label("schema_digest"),
    )
    .select_from(batch.join(series).join(label_schema))
    .where(batch.c.identity == bindparam("identity"))
)
# Made once: to describe forty columns again takes longer than to store them.
INSERTED: Final = insert(batch)
INSERTED_AS: Final = insert(batch).returning(batch.c.id)


def record(
    changes: Changes, catalogue: Catalogue, entry: Entry, *, now: int, oldest: int | None
) -> Outcome:
    """Store a batch, or find it stored.

    Args:
        changes: the transaction.
        catalogue: of series.
        entry: the batch.
        now: microseconds since 1970.
        oldest: event times before are refused.

    Raises:
        BatchConflict: another batch of that name is stored.
        UnknownSchema: its label schema was never declared.
        SchemaMismatch: its label schema has another number of classes.
        SumsOverflow: a sum is not finite.
        TooOld: it would be removed at once.
    """
    name = identity(entry.key, entry.batch_id)
    found = _found(changes.connection, entry, name)
    if found is not None:
        return found
    _check_time(entry.event_time, oldest)
    check_finite(entry.sums)
    place = catalogue.place(changes, entry.key)
    _check_classes(entry, place)
    _store(changes, entry, place.series_id, {"identity": name, "received": now})
    changes.mark_batch(place.project_id, place.series_id, entry.event_time)
    return Outcome("created", place.series, 1, entry.kept is not None)


def check_finite(sums: Sums) -> None:
    """Refuse what cannot be added up, or drawn. Raises SumsOverflow."""
    ends = [sums.loss_min, sums.loss_max]
    hardest = [row.get(name) for row in sums.hardest for name in ("loss", "probability")]
    drawn = all(math.isfinite(number) for number in ends + hardest if number is not None)
    if not drawn or not sums.is_finite():
        raise SumsOverflow("a sum over this batch exceeds float64: scale its weights or its logits")


def _found(connection: Connection, entry: Entry, name: bytes) -> Outcome | None:
    row = connection.execute(STORED, {"identity": name}).one_or_none()
    if row is None:
        return None
    schema = entry.key.label_schema
    # A name alone meant what was the latest version then, whatever is the latest version now.
    same_classes = schema.classes is None or classes_digest(schema.classes) == row.schema_digest
    if row.digest != entry.digest:
        raise _conflict("with another body")
    if row.tags != entry.key.tags_json:
        raise _conflict("with other tags")
    if row.schema_name != schema.name or not same_classes:
        raise _conflict("with another label schema")
    return Outcome("replayed", row.series, row.revision, row.pending)


def _store(changes: Changes, entry: Entry, series_id: int, more: dict[str, object]) -> None:
    row = {
        "series_id": series_id,
        "batch_id": entry.batch_id,
        "digest": entry.digest,
        "event_time": entry.event_time,
        "revision": 1,
        "pending": entry.kept is not None,
        **more,
        **entry.sums.columns(),
    }
    kept = entry.kept
    if kept is None:
        changes.connection.execute(INSERTED, row)
        return
    waiting = {
        "batch_key": changes.connection.execute(INSERTED_AS, row).scalar_one(),
        "expires_at": kept.expires_at,
        "path": kept.path,
        "media_type": kept.media_type,
        "body": kept.body,
    }
    changes.connection.execute(insert(pending), waiting)


def _conflict(how: str) -> BatchConflict:
    return BatchConflict(
        f"a batch of this batch_id was recorded before, {how}: give this one another batch_id; "
        "what is recorded changes by late labels only"
    )


def _check_time(event_time: int, oldest: int | None) -> None:
    if oldest is not None and event_time < oldest:
        message = f"what lies before {times.text(oldest)} is not kept: see XENT_RETENTION_DAYS"
        raise TooOld([Fault("/track/event_time", message)])


def _check_classes(entry: Entry, place: Place) -> None:
    seen = int(entry.sums.classes["class"].max(initial=-1)) + 1
    if entry.classes not in (None, place.classes) or seen > place.classes:
        has = f"at least {seen}" if entry.classes is None else str(entry.classes)
        message = (
            f"the label schema was declared with {place.classes} classes, the batch has {has}: "
            "declare it again, or under another name"
        )
        raise SchemaMismatch([Fault(POINTER, message)])
