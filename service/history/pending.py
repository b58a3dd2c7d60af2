"""Logits that wait for labels: read, corrected as labels come, removed when they wait too long."""

import json
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection, RowMapping, delete, select, update

from service.errors import LabelsTooLate, Outdated, UnknownBatch
from service.history.batches import check_finite
from service.history.changes import Changes
from service.history.entries import Corrected, Correction, KeptBatch
from service.history.tables import batch, label_schema, pending, project, series

PURGED_AT_ONCE: Final = 100
GONE: Final = "the logits of this batch are not kept, or no longer: labels cannot be joined to them"
WAITING: Final = batch.join(series).join(label_schema).outerjoin(pending)


@dataclass(frozen=True, slots=True)
class BatchName:
    """Which batches labels are for: those of a name, of one variant or of all."""

    project: str
    model: str
    model_version: str
    batch_id: str
    variant: str | None = None


def kept(connection: Connection, name: BatchName, *, now: int) -> list[KeptBatch]:
    """Return the batches of a name whose logits are kept, ascending by variant.

    Raises:
        UnknownBatch: there is none of that name.
        LabelsTooLate: there are, but of none of them logits are kept.
    """
    wanted = (
        select(
            batch.c.id.label("batch_key"),
            series.c.name.label("series"),
            batch.c.batch_id,
            series.c.variant,
            series.c.settings_hash,
            batch.c.event_time,
            label_schema.c.classes,
            batch.c.revision,
            batch.c.pending,
            pending.c.expires_at,
            pending.c.path,
            pending.c.media_type,
            pending.c.body,
            pending.c.labels,
        )
        .select_from(WAITING.join(project, project.c.id == series.c.project_id))
        .where(project.c.name == name.project, batch.c.batch_id == name.batch_id)
        .where(series.c.model == name.model, series.c.model_version == name.model_version)
        .order_by(series.c.variant, batch.c.id)
    )
    if name.variant is not None:
        wanted = wanted.where(series.c.variant == name.variant)
    rows = connection.execute(wanted).mappings().all()
    if not rows:
        raise UnknownBatch("no batch of this name was recorded, or it was removed since")
    waiting = [_kept(row) for row in rows if (row["expires_at"] or 0) > now]
    if not waiting:
        raise LabelsTooLate(GONE)
    return waiting


def correct(changes: Changes, correction: Correction, *, now: int) -> Corrected:
    """Replace the sums of a batch.

    Raises:
        LabelsTooLate: its logits are not kept, or no longer.
        Outdated: it was corrected since the revision that the correction was computed from.
        SumsOverflow: a sum is not finite.
    """
    stored = _stored(changes.connection, correction.batch_key)
    if stored is None or stored["expires_at"] <= now:
        raise LabelsTooLate(GONE)
    name, revision, waits = stored["series"], stored["revision"], stored["pending"]
    if stored["labels"] == correction.labels:
        return Corrected("unchanged", name, revision, waits)
    if correction.revision not in (None, revision):
        raise Outdated("other labels of this batch came at the same time: send these again")
    check_finite(correction.sums)
    _replace(changes.connection, correction, revision + 1)
    changes.mark_batch(stored["project_id"], stored["series_id"], stored["event_time"])
    completed = waits and not correction.pending
    status: Literal["completed", "corrected"] = "completed" if completed else "corrected"
    return Corrected(status, name, revision + 1, correction.pending)


def purge(changes: Changes, *, now: int) -> int:
    """Remove logits that waited too long, some at a time; return how many. The batches stay."""
    expired = changes.connection.execute(
        select(
            batch.c.id,
            batch.c.series_id,
            batch.c.event_time,
            batch.c.pending,
            series.c.project_id,
        )
        .select_from(pending.join(batch).join(series))
        .where(pending.c.expires_at <= now)
        .order_by(pending.c.expires_at)
        .limit(PURGED_AT_ONCE)
    ).all()
    keys = [row.id for row in expired]
    changes.connection.execute(delete(pending).where(pending.c.batch_key.in_(keys)))
    changes.connection.execute(update(batch).where(batch.c.id.in_(keys)).values(pending=False))
    for row in expired:
        if row.pending:
            changes.mark_batch(row.project_id, row.series_id, row.event_time)
    return len(expired)


def _kept(row: RowMapping) -> KeptBatch:
    columns = {name: value for name, value in row.items() if name != "expires_at"}
    columns["classes"] = tuple(json.loads(row["classes"]))
    return KeptBatch(**columns)


def _stored(connection: Connection, batch_key: int) -> RowMapping | None:
    wanted = (
        select(
            batch.c.series_id,
            series.c.name.label("series"),
            batch.c.event_time,
            batch.c.revision,
            batch.c.pending,
            series.c.project_id,
            pending.c.expires_at,
            pending.c.labels,
        )
        .select_from(pending.join(batch).join(series))
        .where(batch.c.id == batch_key)
    )
    return connection.execute(wanted).mappings().one_or_none()


def _replace(connection: Connection, correction: Correction, revision: int) -> None:
    key = correction.batch_key
    sums = correction.sums.columns()
    connection.execute(
        update(batch)
        .where(batch.c.id == key)
        .values(**sums, revision=revision, pending=correction.pending)
    )
    labels = update(pending).where(pending.c.batch_key == key)
    connection.execute(labels.values(labels=correction.labels))
