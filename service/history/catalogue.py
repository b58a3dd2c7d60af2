"""Projects, label schemas and series: found, or made where they are not there yet."""

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from sqlalchemy import Connection, Row, Table, insert, select

from service.errors import Fault, UnknownSchema
from service.history.changes import Changes
from service.history.tables import label_schema, project, series
from service.history.track import SchemaRef, SeriesKey, classes_digest, series_name

T = TypeVar("T")
REMEMBERED: Final = 100_000
POINTER: Final = "/track/label_schema"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a batch goes."""

    project_id: int
    series_id: int
    series: str  # its name
    schema_digest: str  # of the class names
    classes: int  # how many its label schema has


class Schema(NamedTuple):
    """A label schema, as far as a batch needs it."""

    id: int
    digest: str  # of the class names
    classes: int


class Catalogue:
    """Remembers what it has found: rows of these tables never change and never go."""

    def __init__(self) -> None:
        self._places: dict[Hashable, Place] = {}

    def place(self, changes: Changes, key: SeriesKey) -> Place:
        """Return where a batch goes.

        Raises:
            UnknownSchema: its label schema was never declared.
        """
        if key.label_schema.classes is None:
            # Not remembered: another process may declare the next version at any time.
            return _place(changes, key)
        return self._remembered(_name(key), changes, lambda: _place(changes, key))

    def forget(self) -> None:
        """Forget all: another database may answer from now on."""
        self._places.clear()

    def _remembered(self, name: Hashable, changes: Changes, find: Callable[[], Place]) -> Place:
        known = self._places.get(name)
        if known is not None:
            return known
        found = find()

        def remember() -> None:
            if len(self._places) >= REMEMBERED:
                self._places.clear()
            self._places[name] = found

        changes.after_commit(remember)  # not before: it may be undone
        return found


def _name(key: SeriesKey) -> Hashable:
    schema = key.label_schema
    names = (key.project, key.model, key.model_version, key.variant)
    return (*names, key.settings_hash, schema.name, schema.classes, key.tags_json)


def _place(changes: Changes, key: SeriesKey) -> Place:
    project_id = _found_or_made(changes, project, {"name": key.project}, {"revision": 0})
    schema = _schema(changes, project_id, key.label_schema)
    names = {
        "project_id": project_id,
        "model": key.model,
        "model_version": key.model_version,
        "variant": key.variant,
        "settings_hash": key.settings_hash,
        "label_schema_id": schema.id,
        "tags": key.tags_json,
    }
    name = series_name(
        *(key.project, key.model, key.model_version, key.variant, key.settings_hash),
        *(key.label_schema.name, schema.digest, key.tags_json),
    )
    rest = {"name": name, "family": key.family, "settings": key.settings_json}
    series_id = _found_or_made(changes, series, names, rest)
    return Place(project_id, series_id, name, schema.digest, schema.classes)


def _schema(changes: Changes, project_id: int, wanted: SchemaRef) -> Schema:
    versions = _versions(changes.beside, project_id, wanted.name)
    if wanted.classes is None:
        if not versions:
            raise _unknown()
        latest = versions[-1]
        return Schema(latest.id, latest.digest, len(json.loads(latest.classes)))
    digest = classes_digest(wanted.classes)
    # Any version, not only the latest: two programs that disagree do not make one at every batch.
    same = next((version.id for version in versions if version.digest == digest), None)
    if same is None:
        names = {"project_id": project_id, "name": wanted.name, "version": len(versions) + 1}
        classes = json.dumps(wanted.classes, ensure_ascii=False)
        same = _made(changes, label_schema, {**names, "digest": digest, "classes": classes})
    return Schema(same, digest, len(wanted.classes))


def _versions(
    connection: Connection, project_id: int, name: str
) -> list[Row[tuple[int, str, str]]]:
    wanted = select(label_schema.c.id, label_schema.c.digest, label_schema.c.classes)
    ours = (label_schema.c.project_id == project_id) & (label_schema.c.name == name)
    return list(connection.execute(wanted.where(ours).order_by(label_schema.c.version)))


def _found_or_made(
    changes: Changes, table: Table, names: Mapping[str, object], rest: Mapping[str, object]
) -> int:
    """Return the id of the row with these names. No other writer comes between the two steps."""
    found: int | None = changes.beside.execute(
        select(table.c.id).where(*(table.c[name] == value for name, value in names.items()))
    ).scalar()
    return _made(changes, table, {**names, **rest}) if found is None else found


def _made(changes: Changes, table: Table, row: Mapping[str, object]) -> int:
    made: int = changes.beside.execute(insert(table).returning(table.c.id), row).scalar_one()
    return made


def _unknown() -> UnknownSchema:
    message = "no label schema of this name was declared in this project: send its classes once"
    return UnknownSchema([Fault(POINTER, message)])
