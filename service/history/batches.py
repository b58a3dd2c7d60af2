"""Batches: stored once, found again when they are sent again, told from others of their name."""

import math

from service.errors import BatchConflict, Fault, SchemaMismatch, SumsOverflow, TooOld
from service.history import times
from service.history.catalogue import POINTER, Catalogue, Place
from service.history.changes import Changes
from service.history.entries import Entry, Outcome
from service.history.ledger import Stored
from service.history.sums import Sums
from service.history.track import classes_digest


def record(
    changes: Changes, catalogue: Catalogue, entry: Entry, *, now: int, oldest: int | None
) -> Outcome:
    """Add a batch, or find it stored.

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
    found = changes.ledger.find(entry.identity)
    if found is not None:
        return _replayed(entry, found)
    _check_time(entry.event_time, oldest)
    check_finite(entry.sums)
    place = catalogue.place(changes, entry.key)
    _check_classes(entry, place)
    _add(changes, entry, place, received=now)
    changes.mark_batch(place.project_id, place.series_id, entry.event_time)
    return Outcome("created", place.series, 1, entry.kept is not None)


def check_finite(sums: Sums) -> None:
    """Refuse what cannot be added up, or drawn. Raises SumsOverflow."""
    ends = [sums.loss_min, sums.loss_max]
    hardest = [row.get(name) for row in sums.hardest for name in ("loss", "probability")]
    drawn = all(math.isfinite(number) for number in ends + hardest if number is not None)
    if not drawn or not sums.is_finite():
        raise SumsOverflow("a sum over this batch exceeds float64: scale its weights or its logits")


def _replayed(entry: Entry, stored: Stored) -> Outcome:
    schema = entry.key.label_schema
    # A name alone meant what was the latest version then, whatever is the latest version now.
    same_classes = schema.classes is None or classes_digest(schema.classes) == stored.schema_digest
    if stored.digest != entry.digest:
        raise _conflict("with another body")
    if stored.tags != entry.key.tags_json:
        raise _conflict("with other tags")
    if stored.schema_name != schema.name or not same_classes:
        raise _conflict("with another label schema")
    return Outcome("replayed", stored.series, stored.revision, stored.pending)


def _add(changes: Changes, entry: Entry, place: Place, *, received: int) -> None:
    key, waits = entry.key, entry.kept is not None
    stored = Stored(
        digest=entry.digest,
        series=place.series,
        tags=key.tags_json,
        schema_name=key.label_schema.name,
        schema_digest=place.schema_digest,
        revision=1,
        pending=waits,
    )
    row = {
        "series_id": place.series_id,
        "batch_id": entry.batch_id,
        "digest": entry.digest,
        "event_time": entry.event_time,
        "received": received,
        "revision": 1,
        "pending": waits,
        **entry.sums.columns(),
    }
    changes.ledger.add(entry.identity, stored, row, entry.kept)


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
