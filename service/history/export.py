"""Everything that was recorded, a row for each batch, written as it is read: in constant memory."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from sqlalchemy import select

from service.history import tables, times
from service.history.questions import Selection
from service.history.rollups import View
from service.history.selection import Series, matching, span
from service.history.sums import COUNTS, SCALARS

GROUP: Final = 5000  # rows of a row group, and of what is in memory
_OWN: Final = ("batch_id", "event_time", "received", "revision", "pending", *SCALARS)
_TIMES: Final = ("event_time", "received")
_SERIES: Final = (
    "series",
    "model",
    "model_version",
    "variant",
    "settings_hash",
    "settings",
    "label_schema",
    "tags",
)

SCHEMA: Final = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in _SERIES),
        pa.field("batch_id", pa.string()),
        *(pa.field(name, pa.timestamp("us", tz="UTC")) for name in _TIMES),
        pa.field("revision", pa.int64()),
        pa.field("pending", pa.bool_()),
        *(pa.field(name, pa.int64() if name in COUNTS else pa.float64()) for name in SCALARS),
        pa.field("loss_mean", pa.float64()),
    ]
)
NAMES: Final = tuple(SCHEMA.names)

Format = Literal["parquet", "csv", "jsonl"]
MEDIA_TYPES: Final[Mapping[Format, str]] = {
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
}


class Question(Selection):
    """What is exported, and as what."""

    format: Format = Field("parquet", description="parquet, csv or jsonl.")


def export(view: View, question: Question) -> Iterator[bytes]:
    """Yield a file, part by part; by series, then by time."""
    groups = _groups(view, question)
    return _WRITERS[question.format](groups)


def _groups(view: View, question: Question) -> Iterator[list[tuple[Any, ...]]]:
    """Yield rows, with the members of :data:`NAMES`, so many at a time."""
    series = matching(view, question)
    start, end = span(question, series)
    batch = tables.batch.c
    for each in series:
        own = _of_series(each)
        query = (
            select(*(batch[name] for name in _OWN))
            .where(batch.series_id == each.id, batch.event_time >= start, batch.event_time < end)
            .order_by(batch.event_time, batch.batch_id)
        )
        found = view.connection.execute(query, execution_options={"yield_per": GROUP})
        for rows in found.partitions():
            yield [(*own, *row, _mean(row)) for row in rows]


def _of_series(series: Series) -> tuple[object, ...]:
    return (
        series.name,
        series.model,
        series.model_version,
        series.variant,
        series.settings_hash,
        series.settings,
        str(series.schema),
        json.dumps(dict(series.tags), sort_keys=True),
    )


_LOSS: Final = _OWN.index("loss_sum")
_WEIGHT: Final = _OWN.index("weight_sum")


def _mean(row: Sequence[Any]) -> float | None:
    return row[_LOSS] / row[_WEIGHT] if row[_WEIGHT] > 0 else None


def _parquet(groups: Iterator[list[tuple[Any, ...]]]) -> Iterator[bytes]:
    sink = _Sink()
    with pq.ParquetWriter(sink, SCHEMA, compression="zstd") as writer:
        for rows in groups:
            columns = [
                pa.array(values, field.type)
                for values, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), row_group_size=GROUP)
            yield sink.taken()
    yield sink.taken()


def _csv(groups: Iterator[list[tuple[Any, ...]]]) -> Iterator[bytes]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(NAMES)
    for rows in groups:
        writer.writerows(_texts(row) for row in rows)
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


def _jsonl(groups: Iterator[list[tuple[Any, ...]]]) -> Iterator[bytes]:
    for rows in groups:
        lines = (orjson.dumps(_document(row), option=orjson.OPT_APPEND_NEWLINE) for row in rows)
        yield b"".join(lines)


_AT: Final = tuple(NAMES.index(name) for name in _TIMES)


def _texts(row: Sequence[Any]) -> list[Any]:
    return [times.text(value) if at in _AT else value for at, value in enumerate(row)]


def _document(row: Sequence[Any]) -> dict[str, Any]:
    document = dict(zip(NAMES, _texts(row), strict=True))
    return document | {name: json.loads(document[name]) for name in ("settings", "tags")}


_WRITERS: Final[Mapping[Format, Callable[[Iterator[list[tuple[Any, ...]]]], Iterator[bytes]]]] = {
    "parquet": _parquet,
    "csv": _csv,
    "jsonl": _jsonl,
}


class _Sink(io.RawIOBase):
    """A file that is handed on while it is written."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:  # noqa: ANN401
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        whole = b"".join(self._parts)
        self._parts.clear()
        return whole
