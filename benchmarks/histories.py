"""A long history, written straight into the tables: a request for each batch would take hours."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from sqlalchemy import insert

from benchmarks.connection import Connection
from service.history import rollups, tables, times
from service.history.database import Database, sqlite_url
from service.history.sums import BIN, BINS, BUCKET, CLASS, HARDEST, Sums

PROJECT: Final = "bench"
VERSIONS: Final = 5
CLASSES: Final = 10
ROWS: Final = 1000  # of a batch
TEMPLATES: Final = 64
EVERY: Final = 5 * times.MINUTE  # from one batch of a version to its next
START: Final = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
TOGETHER: Final = 2000  # batches of one transaction


def write(folder: Path, batches: int) -> int:
    """Write so many batches, as many of each version; return the time of the last, in ms."""
    database = Database(sqlite_url(folder))
    database.migrate()
    each = batches // VERSIONS
    names = json.dumps([f"class-{index}" for index in range(CLASSES)])
    with database.writing() as connection:
        connection.execute(insert(tables.project).values(id=1, name=PROJECT, revision=batches))
        connection.execute(
            insert(tables.label_schema).values(
                id=1, project_id=1, name="classes", version=1, digest="0", classes=names
            )
        )
        for version in range(VERSIONS):
            connection.execute(
                insert(tables.series).values(
                    id=version + 1,
                    name=f"v{version}",
                    project_id=1,
                    model="model",
                    model_version=f"v{version}",
                    variant="sparse",
                    family="softmax",
                    settings_hash="0",
                    settings="{}",
                    label_schema_id=1,
                    tags="{}",
                )
            )
    rows = _rows(each)
    for _ in range(0, each * VERSIONS, TOGETHER):
        page = [row for row, _ in zip(rows, range(TOGETHER), strict=False)]
        with database.writing() as connection:
            connection.execute(insert(tables.batch), page)
            # EVERY is longer: no two batches of a series share a minute.
            connection.execute(
                insert(tables.dirty),
                [
                    {
                        "series_id": row["series_id"],
                        "start": times.floor(row["event_time"], times.MINUTE),
                    }
                    for row in page
                ],
            )
    database.close()
    return (START + each * EVERY) // 1000


def roll_up(folder: Path) -> None:
    """Make the rollups, as the service does before its first answer: that may take minutes."""
    database = Database(sqlite_url(folder))
    rollups.refresh_all(database)
    database.close()


def _rows(each: int) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(0)
    templates = [_sums(random).columns() for _ in range(TEMPLATES)]
    for number in range(each):
        for version in range(VERSIONS):
            batch = f"{version}/{number}"
            digest = hashlib.blake2b(batch.encode(), digest_size=16).digest()
            time = START + number * EVERY + version * times.SECOND
            yield {
                "series_id": version + 1,
                "batch_id": batch,
                "identity": digest,
                "digest": digest,
                "event_time": time,
                "received": time,
                "revision": 1,
                "pending": False,
                **templates[int(random.integers(TEMPLATES))],
            }


def _sums(random: np.random.Generator) -> Sums:
    """Return sums as an evaluation of so many rows has them: as many numbers, of their size."""
    losses = random.gamma(2.0, 0.3, ROWS)
    sums = Sums(
        batches=1,
        rows=ROWS,
        evaluated=ROWS,
        decisions=ROWS,
        loss_sum=float(losses.sum()),
        weight_sum=float(ROWS),
        loss_square_sum=float((losses**2).sum()),
        loss_weight_sum=float(losses.sum()),
        weight_square_sum=float(ROWS),
        prior_loss_sum=float(losses.sum()),
        prior_sum=2.3 * ROWS,
        brier_sum=0.2 * ROWS,
        brier_square_sum=0.1 * ROWS,
        entropy_sum=0.5 * ROWS,
        loss_min=float(losses.min()),
        loss_max=float(losses.max()),
    )
    sums.classes = np.zeros(CLASSES, CLASS)
    sums.classes["class"] = np.arange(CLASSES)
    for name in ("support", "positives", "predicted"):
        sums.classes[name] = ROWS // CLASSES
    sums.classes["true_positives"] = random.integers(60, 100, CLASSES)
    for name in ("weight", "loss_sum", "loss_square_sum", "loss_weight_sum", "weight_square_sum"):
        sums.classes[name] = random.uniform(50, 150, CLASSES)
    bucket, count = np.unique((np.log(losses) * 50).astype(np.int64) + 2700, return_counts=True)
    sums.histogram = np.zeros(len(bucket), BUCKET)
    sums.histogram["bucket"], sums.histogram["count"] = bucket, count
    sums.calibration = np.zeros(BINS, BIN)
    sums.calibration["count"] = ROWS // BINS
    sums.calibration["hits"] = sums.calibration["confidence_sum"] = ROWS / BINS / 2
    sums.hardest = [
        {
            "loss": float(loss),
            "label": 1,
            "prediction": 2,
            "probability": 0.5,
            "row": row,
            "id": f"row-{row}",
            "class_index": None,
            "batch_id": "batch",
            "time": START,
        }
        for row, loss in enumerate(np.sort(losses)[: -HARDEST - 1 : -1])
    ]
    return sums


def asking(connection: Connection, query: str) -> Callable[[], object]:
    """Return what asks for a metric over time, and waits for the answer."""
    path = f"/projects/{PROJECT}/timeseries?{query}"
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
    return lambda: connection.exchange([request])
