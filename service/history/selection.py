"""Which series a selection means, and what of its time is read from where."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, select

from service.history import stack, tables, times
from service.history.questions import Selection
from service.history.rollups import View
from service.history.stack import Integers, Stack

CHUNK: Final = 500  # series of one query
PAGE: Final = 4096  # stored rows that are decoded at a time
VERSION_DIGITS: Final = 8
BATCHES: Final = 0  # the length of what is read batch by batch


# Changes sums that were read, of series at these places.
Narrow = Callable[[Stack, Integers], None]


@dataclass(frozen=True, slots=True)
class Schema:
    """A label schema, without its class names.

    ``changed`` says whether its name stood for other classes before, by the times of batches.
    """

    id: int
    name: str
    digest: str
    changed: bool

    @property
    def version(self) -> str:
        """What tells it from others of its name: of its classes, not of when they were declared."""
        return self.digest[:VERSION_DIGITS]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Series:
    """A series, and the times of its first and last batch, microseconds.

    ``id`` is the database's own, ``name`` what it is called; see
    :func:`service.history.track.series_name`.
    """

    id: int
    name: str
    model: str
    model_version: str
    variant: str
    family: str
    settings_hash: str
    settings: str
    schema: Schema
    tags: Mapping[str, str]
    first: int
    last: int

    @property
    def unit(self) -> tuple[str, str]:
        """What losses must share to be added up."""
        return self.variant, self.settings_hash


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a time: buckets of one length, or batches."""

    length: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Gathered:
    """Sums in the order of series, then of time: of which series, since when, and what."""

    position: Integers
    time: Integers
    sums: Stack


def matching(view: View, selection: Selection) -> list[Series]:
    """Return the series that a selection means, in an order that their arrival does not alter."""
    found = [each for each in series_of(view) if _matches(each, selection)]
    return sorted(
        found,
        key=lambda each: (
            (each.model, each.model_version, *each.unit, each.schema.name),
            (each.first, each.schema.digest),
            sorted(each.tags.items()),
        ),
    )


def series_of(view: View) -> list[Series]:
    """Return the series of a project that hold batches."""
    series, schema, batch = tables.series.c, tables.label_schema.c, tables.batch.c
    times_of = select(batch.event_time).where(batch.series_id == series.id).limit(1)
    # Two look-ups in the index each; min and max with a GROUP BY would read all of it.
    first = times_of.order_by(batch.event_time).scalar_subquery()
    last = times_of.order_by(batch.event_time.desc()).scalar_subquery()
    query = (
        select(
            tables.series,
            schema.name.label("schema_name"),
            schema.digest.label("schema_digest"),
            first.label("first"),
            last.label("last"),
        )
        .join(tables.label_schema, schema.id == series.label_schema_id)
        .where(series.project_id == view.project_id)
    )
    rows = [row for row in view.connection.execute(query) if row.first is not None]
    began: dict[str, tuple[int, str]] = {}  # schemas: when, and with which classes
    for row in rows:
        begin = (row.first, row.schema_digest)
        began[row.schema_name] = min(begin, began.get(row.schema_name, begin))
    return [
        Series(
            id=row.id,
            name=row.name,
            model=row.model,
            model_version=row.model_version,
            variant=row.variant,
            family=row.family,
            settings_hash=row.settings_hash,
            settings=row.settings,
            schema=Schema(
                row.label_schema_id,
                row.schema_name,
                row.schema_digest,
                began[row.schema_name][1] != row.schema_digest,
            ),
            tags=json.loads(row.tags),
            first=row.first,
            last=row.last,
        )
        for row in rows
    ]


def class_names(connection: Connection, schemas: Iterable[int]) -> dict[int, list[str]]:
    """Return the class names of label schemas, by the schema's id."""
    schema = tables.label_schema.c
    query = select(schema.id, schema.classes).where(schema.id.in_(set(schemas)))
    return {key: json.loads(classes) for key, classes in connection.execute(query)}


def span(selection: Selection, series: Sequence[Series]) -> tuple[int, int]:
    """Return from and to of a selection: where it is open, what is there decides."""
    first = min((each.first for each in series), default=0)
    last = max((each.last for each in series), default=0)
    start = first if selection.from_ is None else selection.from_
    end = max(start, last) + 1 if selection.to is None else selection.to
    return min(start, end), end


def cover(selection: Selection, series: Sequence[Series], longest: int = times.DAY) -> list[Piece]:
    """Return buckets, and batches at ragged edges, that are exactly the time of a selection.

    Args:
        selection: from and to.
        series: those that are read.
        longest: no bucket is longer, microseconds.
    """
    start, end = span(selection, series)
    if selection.from_ is None:
        start = times.floor(start, longest)
    if selection.to is None:
        end = times.floor(end - 1, longest) + longest
    return _cover(start, end, [level for level in times.LEVELS if level <= longest])


def gather(
    view: View,
    series: Sequence[Series],
    pieces: Sequence[Piece],
    names: Sequence[str],
    narrow: Narrow | None = None,
) -> Gathered:
    """Return what is stored of series in these pieces of time.

    Args:
        view: where to read.
        series: their places in this list tell whose the sums are.
        pieces: from :func:`cover`.
        names: the columns that are wanted.
        narrow: is applied to each part before the next is read: what it drops takes no memory.
    """
    place = {each.id: position for position, each in enumerate(series)}
    positions, starts, parts = [], [], []
    for page in _pages(view.connection, list(place), pieces, names):
        part = stack.decode(names, [row[2:] for row in page])
        position = np.fromiter((place[row[0]] for row in page), np.int64, len(page))
        if narrow is not None:
            narrow(part, position)
        positions.append(position)
        starts.append(np.fromiter((row[1] for row in page), np.int64, len(page)))
        parts.append(part)
    if not parts:
        nothing = np.zeros(0, np.int64)
        return Gathered(nothing, nothing, stack.decode(names, []))
    position, time = np.concatenate(positions), np.concatenate(starts)
    order = np.lexsort((time, position))
    sums = stack.concatenate(parts)
    if (np.diff(order) == 1).all():  # as it mostly comes from the index
        return Gathered(position, time, sums)
    return Gathered(position[order], time[order], sums.take(order))


def _pages(
    connection: Connection, ids: list[int], pieces: Sequence[Piece], names: Sequence[str]
) -> Iterator[Sequence[Sequence[Any]]]:
    for begin in range(0, len(ids), CHUNK):
        for piece in pieces:
            table = tables.rollup if piece.length else tables.batch
            time = table.c.start if piece.length else table.c.event_time
            query = select(table.c.series_id, time, *(table.c[name] for name in names)).where(
                table.c.series_id.in_(ids[begin : begin + CHUNK]),
                time >= piece.start,
                time < piece.end,
            )
            if piece.length:
                query = query.where(table.c.length == piece.length)
            else:
                # Batches may share a moment; their order is fixed nevertheless.
                query = query.order_by(time, table.c.identity)
            found = connection.execute(query, execution_options={"yield_per": PAGE})
            yield from found.partitions()


def _cover(start: int, end: int, levels: list[int]) -> list[Piece]:
    if start >= end:
        return []
    if not levels:
        return [Piece(BATCHES, start, end)]
    *shorter, level = levels
    inner, outer = -times.floor(-start, level), times.floor(end, level)
    if inner >= outer:
        return _cover(start, end, shorter)
    before, after = _cover(start, inner, shorter), _cover(outer, end, shorter)
    return [*before, Piece(level, inner, outer), *after]


def _matches(series: Series, wanted: Selection) -> bool:
    pairs = (
        (wanted.model, (series.model,)),
        (wanted.model_version, (series.model_version,)),
        (wanted.variant, (series.variant,)),
        (wanted.settings, (series.settings_hash,)),
        (wanted.label_schema, (series.schema.name, str(series.schema))),
        *((values, (series.tags.get(key),)) for key, values in wanted.tags.items()),
    )
    return all(not among or any(each in among for each in own) for among, own in pairs)
