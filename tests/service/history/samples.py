"""Batches to record: each number always gives the same one."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import select

from service.history.database import Database
from service.history.entries import Entry, Kept
from service.history.sums import BIN, BINS, BUCKET, CLASS, Sums
from service.history.tables import METADATA, batch
from service.history.times import DAY, MINUTE, SECOND
from service.history.track import SchemaRef, SeriesKey

CLASSES = ("cat", "dog", "owl")
KEY = SeriesKey(
    project="zoo",
    model="eyes",
    model_version="1",
    variant="sparse",
    family="softmax",
    settings={"class_weights": None},
    label_schema=SchemaRef("animals", CLASSES),
    tags={},
)
NOON = 20_000 * DAY + 12 * 60 * MINUTE
NEVER = 1 << 62


def sums(number: int, rows: int = 10) -> Sums:
    """Return sums with something in every place; equal numbers give equal sums."""
    draw = np.random.default_rng(number)
    classes = np.zeros(len(CLASSES), CLASS)
    classes["class"] = range(len(CLASSES))
    classes["support"] = rows
    classes["loss_sum"] = draw.exponential(size=len(CLASSES))
    histogram = np.array([(draw.integers(100), rows)], BUCKET)
    calibration = np.zeros(BINS, BIN)
    calibration["confidence_sum"] = draw.random()
    loss = float(draw.exponential())
    return Sums(
        batches=1,
        rows=rows,
        evaluated=rows,
        loss_sum=loss * rows,
        weight_sum=float(rows),
        loss_min=loss,
        loss_max=loss,
        classes=classes,
        histogram=histogram,
        calibration=calibration,
        hardest=[{"loss": loss, "row": 0, "batch_id": str(number), "time": NOON}],
    )


def entry(number: int, *, body: bytes = b"body", **changes: Any) -> Entry:  # noqa: ANN401
    """Return batch ``number``; others of :class:`Entry` and :class:`SeriesKey` by name."""
    digest = hashlib.blake2b(body + str(number).encode(), digest_size=16).digest()
    of_entry = {name: changes.pop(name) for name in ("kept", "sums", "batch_id") if name in changes}
    plain = Entry(
        key=replace(KEY, **{name: changes[name] for name in changes if name != "event_time"}),
        batch_id=f"batch-{number}",
        event_time=changes.get("event_time", NOON + number * 7 * SECOND),
        digest=digest,
        sums=sums(number),
    )
    return replace(plain, **of_entry)


def waiting(body: bytes = b"logits", expires_at: int = NEVER) -> Kept:
    """Return a body that waits for its labels."""
    return Kept(expires_at, "/loss/sparse", "application/json", body)


def contents(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table."""
    with database.reading() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in METADATA.sorted_tables
        }


def batches(database: Database) -> list[dict[str, Any]]:
    """Return the batches in the order of their names."""
    with database.reading() as connection:
        rows = connection.execute(select(batch).order_by(batch.c.batch_id, batch.c.id))
        return [dict(row) for row in rows.mappings()]
