"""Histories for tests: simulated rows, the sums of them, and the tables that hold those."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, insert, select, update

from service.history import tables, times
from service.history.database import Database
from service.history.sums import BIN, BINS, BUCKET, CLASS, REPLICATE, REPLICATES, SKETCH, Sums
from service.history.track import classes_digest, series_name
from xentcore import bucket_bounds

Floats = NDArray[np.float64]
START = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
NAMES = ("ant", "bee", "cat", "dog")
Known = dict[tuple[object, ...], int]
UPPER = bucket_bounds()[1].numpy()


@dataclass(frozen=True)
class Rows:
    """Evaluated rows: what each adds to the sums."""

    loss: Floats
    weight: Floats
    label: NDArray[np.int64]
    prediction: NDArray[np.int64]
    confidence: Floats
    norm: Floats
    ignored: int = 0
    nonfinite: int = 0

    @property
    def hit(self) -> NDArray[np.bool_]:
        return np.asarray(self.label == self.prediction)

    def take(self, index: NDArray[Any]) -> "Rows":
        """Return the rows at these places, or where this is true."""
        return replace(
            self,
            loss=self.loss[index],
            weight=self.weight[index],
            label=self.label[index],
            prediction=self.prediction[index],
            confidence=self.confidence[index],
            norm=self.norm[index],
        )


@dataclass(frozen=True)
class Batch:
    """One evaluation, and of which series."""

    batch_id: str
    time: int
    rows: Rows
    version: str = "v1"
    model: str = "m"
    variant: str = "sparse"
    settings: str = "{}"
    schema: str = "animals"
    schema_version: int = 1
    names: tuple[str, ...] = NAMES
    tags: Mapping[str, str] = field(default_factory=dict)
    project: str = "p"
    pending: bool = False
    clusters: int | None = None  # replicate so many rows together


def simulated(
    random: np.random.Generator, count: int, *, shift: float = 0.0, classes: int = len(NAMES)
) -> Rows:
    """Return rows of which some classes are harder than others."""
    label = random.integers(0, classes, count)
    loss = random.gamma(2.0, 0.3, count) * (1 + label / 2) + shift
    confidence = random.uniform(0.3, 1.0, count)
    hit = random.uniform(size=count) < confidence * 0.9
    return Rows(
        loss=loss,
        weight=random.choice([0.5, 1.0, 2.0], count),
        label=label,
        prediction=np.where(hit, label, (label + 1) % classes),
        confidence=confidence,
        norm=random.uniform(0, 1.4, count),
        ignored=int(random.integers(0, 3)),
    )


def sums_of(batch: Batch) -> Sums:
    """Return the sums of a batch, from their definition."""
    rows = batch.rows
    x = rows.loss * rows.weight
    w = rows.weight
    sums = Sums(
        batches=1,
        rows=len(x) + rows.ignored + rows.nonfinite,
        evaluated=len(x),
        ignored=rows.ignored,
        nonfinite=rows.nonfinite,
        decisions=len(x),
        loss_sum=float(x.sum()),
        weight_sum=float(w.sum()),
        loss_square_sum=float((x * x).sum()),
        loss_weight_sum=float((x * w).sum()),
        weight_square_sum=float((w * w).sum()),
        prior_loss_sum=float(x.sum()),
        prior_sum=float(2 * w.sum()),
        brier_sum=float(((1 - rows.confidence) ** 2).sum()),
        brier_square_sum=float(((1 - rows.confidence) ** 4).sum()),
        entropy_sum=float(rows.confidence.sum()),
        loss_min=float(rows.loss.min()) if len(x) else None,
        loss_max=float(rows.loss.max()) if len(x) else None,
    )
    sums.classes = _classes(rows, x, w)
    bucket, count = np.unique(np.searchsorted(UPPER, rows.loss), return_counts=True)
    sums.histogram = np.array(list(zip(bucket, count, strict=True)), BUCKET)
    which = np.clip(np.ceil(rows.confidence * BINS), 1, BINS).astype(int) - 1
    sums.calibration = np.zeros(BINS, BIN)
    for place in range(BINS):
        held = which == place
        confidence = rows.confidence[held].sum()
        sums.calibration[place] = (held.sum(), rows.hit[held].sum(), confidence)
    digest = hashlib.blake2b(batch.batch_id.encode(), digest_size=8).digest()
    ids = np.random.default_rng(int.from_bytes(digest, "little"))
    sums.sketch = np.sort(ids.integers(0, 2**63, len(x)).astype(SKETCH))
    sums.hardest = [
        {
            "loss": float(rows.loss[row]),
            "label": int(rows.label[row]),
            "prediction": int(rows.prediction[row]),
            "probability": float(rows.confidence[row]),
            "row": int(row),
            "id": f"{batch.batch_id}/{row}",
            "class_index": None,
            "batch_id": batch.batch_id,
            "time": batch.time,
        }
        for row in np.argsort(-rows.loss, kind="stable")[:10]
    ]
    if batch.clusters is not None:
        sums.replicated = len(x)
        sums.replicates = _replicates(ids, x, w, batch.clusters)
    return sums


def _classes(rows: Rows, x: Floats, w: Floats) -> NDArray[Any]:
    held = np.unique(np.concatenate([rows.label, rows.prediction]))
    records = np.zeros(len(held), CLASS)
    for record, each in zip(records, held, strict=True):
        own = rows.label == each
        record["class"] = each
        record["support"] = record["positives"] = own.sum()
        record["predicted"] = (rows.prediction == each).sum()
        record["true_positives"] = (own & rows.hit).sum()
        record["weight"] = w[own].sum()
        record["loss_sum"] = x[own].sum()
        record["loss_square_sum"] = (x[own] ** 2).sum()
        record["loss_weight_sum"] = (x[own] * w[own]).sum()
        record["weight_square_sum"] = (w[own] ** 2).sum()
        record["gradient_norm_sum"] = rows.norm[own].sum()
        record["gradient_norm_square_sum"] = (rows.norm[own] ** 2).sum()
    return records


def _replicates(ids: np.random.Generator, x: Floats, w: Floats, clusters: int) -> NDArray[Any]:
    drawn = ids.poisson(1.0, (clusters, REPLICATES))[np.arange(len(x)) % clusters]
    record = np.zeros(1, REPLICATE)
    record["class"] = -1
    record["loss_sums"] = x @ drawn
    record["weight_sums"] = w @ drawn
    return record


def insert_batches(database: Database, batches: Iterable[Batch]) -> None:
    """Insert batches as the recorder does, in one transaction."""
    known: Known = {}
    with database.writing() as connection:
        for batch in batches:
            insert_batch(connection, batch, known)


def insert_batch(connection: Connection, batch: Batch, known: Known) -> None:
    project = _one(known, connection, tables.project, {"name": batch.project}, {"revision": 0})
    schema = _one(
        known,
        connection,
        tables.label_schema,
        {"project_id": project, "name": batch.schema, "version": batch.schema_version},
        {"digest": classes_digest(batch.names), "classes": json.dumps(batch.names)},
    )
    series = _one(
        known,
        connection,
        tables.series,
        {
            "project_id": project,
            "model": batch.model,
            "model_version": batch.version,
            "variant": batch.variant,
            "settings_hash": _digest(batch.settings),
            "label_schema_id": schema,
            "tags": json.dumps(dict(sorted(batch.tags.items()))),
        },
        {
            "name": series_name(
                *(batch.project, batch.model, batch.version, batch.variant),
                *(_digest(batch.settings), batch.schema, classes_digest(batch.names)),
                json.dumps(dict(sorted(batch.tags.items()))),
            ),
            "family": "softmax",
            "settings": batch.settings,
        },
    )
    identity = hashlib.blake2b(
        repr((batch.project, batch.model, batch.version, batch.variant, batch.batch_id)).encode(),
        digest_size=16,
    ).digest()
    connection.execute(
        insert(tables.batch).values(
            series_id=series,
            batch_id=batch.batch_id,
            identity=identity,
            digest=identity,
            event_time=batch.time,
            received=batch.time,
            revision=1,
            pending=batch.pending,
            **sums_of(batch).columns(),
        )
    )
    start = times.floor(batch.time, times.MINUTE)
    _one(known, connection, tables.dirty, {"series_id": series, "start": start}, {})
    connection.execute(
        update(tables.project)
        .where(tables.project.c.id == project)
        .values(revision=tables.project.c.revision + 1)
    )


def animals(*names: str) -> str:
    """Return what the label schema of these classes is called."""
    return f"animals@{classes_digest(names)[:8]}"


def _digest(value: object) -> str:
    return hashlib.blake2b(repr(value).encode(), digest_size=4).hexdigest()


def _one(
    known: Known,
    connection: Connection,
    table: Table,
    unique: Mapping[str, object],
    more: Mapping[str, object],
) -> int:
    """Return the key of a row, which is made where it is not there."""
    name = (table.name, *unique.values())
    if name not in known:
        key = next(iter(table.primary_key))
        same = select(key).where(*(table.c[each] == value for each, value in unique.items()))
        found = connection.execute(same).scalar_one_or_none()
        if found is None:
            connection.execute(insert(table).values(**unique, **more))
            found = connection.execute(same).scalar_one()
        known[name] = int(found)
    return known[name]


def history(
    seed: int = 0, *, minutes: int = 90, versions: Sequence[str] = ("v1", "v2"), rows: int = 40
) -> list[Batch]:
    """Return a history of one batch a minute in each version, and now and then two."""
    random = np.random.default_rng(seed)
    batches = []
    for number in range(minutes):
        for version in versions:
            for copy in range(2 if number % 7 == 0 else 1):
                time = START + number * times.MINUTE + int(random.integers(0, 60)) * times.SECOND
                batches.append(
                    Batch(f"{version}-{number}-{copy}", time, simulated(random, rows), version)
                )
    return batches
