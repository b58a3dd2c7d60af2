"""What happened when: from what was recorded, and from what people and rules wrote down."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Connection, delete, insert, select

from service.errors import UnknownAnnotation, invalid
from service.history import tables, times
from service.history.changes import revise
from service.history.database import Database
from service.history.questions import Selection
from service.history.rollups import View, project_of
from service.history.selection import Schema, Series, matching

NOTE: Final = "note"
MOST: Final = 1000
_DIGITS: Final = 18  # of an id


class Note(BaseModel):
    """What somebody says of a moment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: AwareDatetime = Field(description="RFC 3339 with an offset.")
    text: str = Field(min_length=1, max_length=2000)
    series: str | None = Field(None, max_length=64, description="The series that it is about.")


def answer(view: View, selection: Selection) -> dict[str, Any]:
    """Return what happened in the time of a selection, the latest first, and at most 1000 things.

    Versions and label schemas that begin, windows in which batches were corrected or completed,
    alerts that changed their state, and notes.
    """
    series = matching(view, selection)
    found = [
        *_begun(series),
        *_corrected(view, series),
        *_written(view, {each.id: each.name for each in series}),
    ]
    start, end = selection.from_, selection.to
    within = [
        each
        for each in found
        if (start is None or each["time"] >= start) and (end is None or each["time"] < end)
    ]
    within.sort(key=lambda each: (-each["time"], each["kind"], each["text"]))
    return {
        "project": view.project,
        "revision": view.revision,
        "annotations": [{**each, "time": times.text(each["time"])} for each in within[:MOST]],
    }


def write(database: Database, project: str, note: Note) -> dict[str, Any]:
    """Keep a note.

    Raises:
        UnknownProject: nothing was ever recorded under that name.
        InvalidDocument: the project has no such series.
    """
    time = times.to_us(note.time)
    with database.writing() as connection:
        project_id = project_of(connection, project).id
        series_id = None if note.series is None else _series(connection, project_id, note.series)
        key = connection.execute(
            insert(tables.annotation)
            .values(
                project_id=project_id, time=time, kind=NOTE, text=note.text, series_id=series_id
            )
            .returning(tables.annotation.c.id)
        ).scalar_one()
        revise(connection, [project_id])
    made = _annotation(time, NOTE, note.text, series=note.series, key=key)
    return {**made, "time": times.text(time)}


def remove(database: Database, project: str, key: str) -> None:
    """Forget a note.

    Raises:
        UnknownProject: nothing was ever recorded under that name.
        UnknownAnnotation: it has no such note; what was recorded cannot be removed.
    """
    annotation = tables.annotation.c
    with database.writing() as connection:
        project_id = project_of(connection, project).id
        gone = (
            connection.execute(
                delete(tables.annotation).where(
                    annotation.id == int(key),
                    annotation.project_id == project_id,
                    annotation.kind == NOTE,
                )
            ).rowcount
            if key.isascii() and key.isdecimal() and len(key) <= _DIGITS
            else 0
        )
        if not gone:
            raise UnknownAnnotation("the project has no note of this id")
        revise(connection, [project_id])


def _series(connection: Connection, project_id: int, name: str) -> int:
    series = tables.series.c
    found: int | None = connection.execute(
        select(series.id).where(series.name == name, series.project_id == project_id)
    ).scalar_one_or_none()
    if found is None:
        raise invalid("/series", "the project has no such series; GET .../series lists them")
    return found


def _begun(series: list[Series]) -> Iterator[dict[str, Any]]:
    """Yield the first data of each version of a model, and of label schemas that have changed."""
    versions: dict[tuple[str, str], int] = {}
    schemas: dict[Schema, int] = {}
    for each in series:
        version = (each.model, each.model_version)
        versions[version] = min(each.first, versions.get(version, each.first))
        schemas[each.schema] = min(each.first, schemas.get(each.schema, each.first))
    for (model, model_version), time in versions.items():
        yield _annotation(time, "version", f"first data of {model} {model_version}")
    for schema, time in schemas.items():
        if schema.changed:
            text = f"the classes of label schema {schema.name} changed: {schema}"
            yield _annotation(time, "schema", text)


def _corrected(view: View, series: list[Series]) -> Iterator[dict[str, Any]]:
    """Yield the hours whose batches were corrected, or completed by late labels."""
    rollup = tables.rollup.c
    query = select(rollup.series_id, rollup.start, rollup.revision - rollup.batches).where(
        rollup.length == times.HOUR, rollup.revision > rollup.batches
    )
    known = {each.id: each for each in series}
    for key, start, count in view.connection.execute(query):
        if key in known:
            each = known[key]
            of = f"{each.model} {each.model_version}, {each.variant}"
            text = f"labels of {of} came late or were corrected, {count} times in the hour"
            yield _annotation(start, "correction", text, series=each.name)


def _written(view: View, names: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    annotation = tables.annotation.c
    query = select(
        annotation.id, annotation.time, annotation.kind, annotation.text, annotation.series_id
    ).where(annotation.project_id == view.project_id)
    for key, time, kind, text, of in view.connection.execute(query):
        if of is None or of in names:
            series = None if of is None else names[of]
            yield _annotation(time, kind, text, series=series, key=key if kind == NOTE else None)


def _annotation(
    time: int, kind: str, text: str, *, series: str | None = None, key: int | None = None
) -> dict[str, Any]:
    return {"id": key, "time": time, "kind": kind, "text": text, "series": series}
