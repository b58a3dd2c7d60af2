"""Questions about a long history, over HTTP."""

import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import histories, servers
from benchmarks.connection import Connection
from benchmarks.harness import Row, Sample, Table, interleaved

BATCHES: Final = 100_000
HOUR_MS: Final = 3_600_000
TARGET_MS: Final = 100.0
PLAN: Final = (
    "EXPLAIN QUERY PLAN SELECT loss_sum FROM rollup "
    "WHERE series_id IN (1, 2, 3, 4, 5) AND length = ? AND start >= ? AND start < ?"
)


def run(*, quick: bool) -> Table:
    """Measure with so many batches of all versions together."""
    return _measured(BATCHES, quick=quick)


def long(*, quick: bool) -> Table:
    """Measure with so many of each version."""
    return _measured(BATCHES * histories.VERSIONS, quick=quick)


def _measured(batches: int, *, quick: bool) -> Table:
    """Measure timeseries queries, each computed anew: no caller sends what it has."""
    batches = batches // 50 if quick else batches
    with tempfile.TemporaryDirectory(prefix="xent-bench-") as folder:
        started_s = time.monotonic()
        last_ms = histories.write(Path(folder), batches)
        written_s = time.monotonic() - started_s
        plan = _plan(Path(folder))
        queries = {
            "loss.mean by version, all of it": "metric=loss.mean&by=model_version",
            "loss.p99 by version, all of it": "metric=loss.p99&by=model_version",
            "loss.mean by class, all of it": "metric=loss.mean&by=class&model_version=v4",
            "loss.mean by version, the last hour": "metric=loss.mean&by=model_version"
            f"&from={last_ms - HOUR_MS}",
        }
        asked_s = time.monotonic()
        histories.roll_up(Path(folder))
        rolled_s = time.monotonic() - asked_s
        with servers.xent(data_dir=folder) as service, Connection(service.port) as connection:
            cases = {name: histories.asking(connection, query) for name, query in queries.items()}
            samples = interleaved(cases, 11 if quick else 101)
    rows = []
    for name, sample in samples.items():
        late = Sample((float(np.quantile(sample.values, 0.95)),))
        rows.append(Row(name, sample))
        rows.append(
            Row(f"{name}: 95th percentile", late, None, ("<", TARGET_MS), "decoding and adding")
        )
    return Table(
        f"GET /projects/.../timeseries over {batches} batches of {histories.VERSIONS} versions",
        "ms",
        tuple(rows),
        (
            f"SQLite; 300 points at most. Written in {written_s:.1f} s, rolled up in "
            f"{rolled_s:.1f} s.",
            f"How SQLite reads rollups: {plan}.",
        ),
    )


def _plan(folder: Path) -> str:
    """Return SQLite's own words."""
    database = sqlite3.connect(next(folder.glob("*.sqlite3")))
    try:
        return "; ".join(row[-1] for row in database.execute(PLAN, (HOUR_MS * 1000, 0, 1)))
    finally:
        database.close()
