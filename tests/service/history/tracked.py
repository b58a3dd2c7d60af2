"""Tracked batches over HTTP, and what the history then holds of them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import select

from service.history import times
from service.history.database import Database, sqlite_url
from service.history.sums import Sums, from_columns
from service.history.tables import batch, label_schema, series
from tests.service.batches import ARROW, arrow, batch_of, cut, safetensors
from tests.service.harness import SAFETENSORS, Running

ROWS, CLASSES = 60, 4
_RNG = np.random.default_rng(7)
LOGITS: NDArray[np.float64] = _RNG.normal(size=(ROWS, CLASSES)) * 3
LABELS: NDArray[np.int64] = _RNG.integers(CLASSES, size=ROWS)
WEIGHTS: NDArray[np.float64] = _RNG.uniform(0.5, 2, ROWS)
IDS = [f"row-{row}" for row in range(ROWS)]
NAMES = ["ant", "bee", "cow", "dog"]
# Not too long ago to be kept.
NOON_US = times.floor(times.now(), times.DAY) - 12 * times.HOUR
NOON = times.text(NOON_US)


def track(batch_id: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the track member of a request; a change to ``None`` leaves a field out."""
    whole = {
        "project": "zoo",
        "model": "eyes",
        "model_version": "1",
        "batch_id": batch_id,
        "event_time": NOON,
        "label_schema": {"name": "animals", "classes": NAMES},
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def document(batch_id: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a JSON request of :data:`LOGITS`; ``changes`` are of its track member."""
    return {
        "logits": LOGITS.tolist(),
        "labels": LABELS.tolist(),
        "track": track(batch_id, **changes),
    }


def body_of(
    kind: str,
    batch_id: str | None,
    *,
    each: int = 16,
    ids: bool = True,
    **request: Any,  # noqa: ANN401  (a document)
) -> bytes:
    """Return the same batch in any format: weighted rows with names.

    Args:
        kind: the media type.
        batch_id: what to track it as; ``None`` for not at all.
        each: rows of a record batch.
        ids: whether rows have their names with them.
        request: what else the document says.
    """
    if batch_id is not None:
        by_column = kind == ARROW or not ids
        request["track"] = track(batch_id, sample_ids=None if by_column else IDS)
    numbers = {"labels": LABELS, "sample_weights": WEIGHTS, "logits": LOGITS}
    if kind == ARROW:
        names = {"sample_id": IDS} if ids else {}
        columns = {"logits": LOGITS, "label": LABELS, "sample_weight": WEIGHTS, **names}
        return arrow(list(cut(batch_of(columns), each)), **request)
    if kind == SAFETENSORS:
        return safetensors(numbers, **request)
    return json.dumps({**{k: v.tolist() for k, v in numbers.items()}, **request}).encode()


class History:
    """A server, and what it has stored."""

    def __init__(self, running: Running, url: str) -> None:
        self.running = running
        self._url = url

    @classmethod
    def start(cls, folder: Path, **settings: object) -> "History":
        return cls(Running(data_dir=folder, **settings), sqlite_url(folder))

    @property
    def client(self) -> httpx2.Client:
        return self.running.client

    def post(self, path: str, request: Mapping[str, Any], status: int = 200) -> dict[str, Any]:
        return checked(self.client.post(path, json=request), status)

    def send(
        self, path: str, body: bytes | Iterable[bytes], kind: str, **headers: str
    ) -> dict[str, Any]:
        headers = {"content-type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}}
        return checked(self.client.post(path, content=body, headers=headers), 200)

    def batches(self, batch_id: str) -> list[dict[str, Any]]:
        """Return the batches of a name with their series, in the order of their variants."""
        database = Database(self._url)
        wanted = (
            select(batch, series.c.variant, series.c.settings, series.c.tags, label_schema.c.name)
            .select_from(batch.join(series).join(label_schema))
            .where(batch.c.batch_id == batch_id)
            .order_by(series.c.variant, batch.c.id)
        )
        try:
            with database.reading() as connection:
                return [dict(row) for row in connection.execute(wanted).mappings()]
        finally:
            database.close()

    def sums(self, batch_id: str) -> Sums:
        """Return what is stored of the only batch of a name."""
        (row,) = self.batches(batch_id)
        return from_columns(row)


def checked(response: httpx2.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()
    return found


def same(found: Sums, expected: Sums, relative: float = 1e-11) -> None:
    """Check that sums are the same, but for the batch that their hardest rows name."""
    for name in expected.columns():
        if name in ("classes", "histogram", "calibration", "replicates"):
            mine, theirs = getattr(found, name), getattr(expected, name)
            assert len(mine) == len(theirs), name
            for column in mine.dtype.names:
                np.testing.assert_allclose(
                    mine[column], theirs[column], rtol=relative, atol=1e-12, err_msg=column
                )
        elif name == "sketch":
            assert found.sketch.tolist() == expected.sketch.tolist()
        elif name == "hardest":
            assert [without_batch(row) for row in found.hardest] == [
                without_batch(row) for row in expected.hardest
            ]
        else:
            close = pytest.approx(getattr(expected, name), rel=relative, abs=1e-12)
            assert getattr(found, name) == close, name


def without_batch(row: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in row.items() if name not in ("batch_id", "time")}
    return {**rest, "loss": round(row["loss"], 10), "probability": round(row["probability"], 10)}
