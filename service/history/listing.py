"""What there is: projects, series, and the values that parameters can have."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, func, select

from service.errors import invalid
from service.history import tables, times
from service.history.grouping import Classes
from service.history.metrics import METRICS
from service.history.questions import TAG, Question, Selection
from service.history.rollups import View
from service.history.selection import Series, class_names, cover, gather, matching

_COUNTED: Final = ("batches", "rows", "ignored")


class Nothing(Question):
    """Takes no parameters."""


def projects(connection: Connection) -> dict[str, Any]:
    """Return all projects; their rollups must be what their batches say."""
    project, series, batch, day = (
        each.c for each in (tables.project, tables.series, tables.batch, tables.rollup)
    )
    rows = (
        select(func.coalesce(func.sum(day.rows), 0))
        .join(tables.series, series.id == day.series_id)
        .where(series.project_id == project.id, day.length == times.DAY)
        .scalar_subquery()
    )
    found = connection.execute(select(project.id, project.name, rows).order_by(project.name))
    every = select(batch.event_time).where(batch.series_id == series.id).limit(1)
    first = every.order_by(batch.event_time).scalar_subquery()
    last = every.order_by(batch.event_time.desc()).scalar_subquery()
    begins: dict[int, list[tuple[int, int]]] = {}
    for key, one, other in connection.execute(select(series.project_id, first, last)):
        if one is not None:
            begins.setdefault(key, []).append((one, other))
    return {
        "projects": [
            {
                "project": name,
                "series": len(begins[key]),
                "rows": int(count),
                "first": times.text(min(one for one, _ in begins[key])),
                "last": times.text(max(other for _, other in begins[key])),
            }
            for key, name, count in sorted(found, key=lambda each: each[1])
            if key in begins
        ]
    }


def series(view: View, selection: Selection) -> dict[str, Any]:
    """Return the series of a selection, and what each holds in its time."""
    found = matching(view, selection)
    sums = gather(view, found, cover(selection, found), _COUNTED)
    counts = {name: [0] * len(found) for name in _COUNTED}
    for name, totals in counts.items():
        for position, value in zip(
            sums.position.tolist(), sums.sums.scalars[name].tolist(), strict=True
        ):
            totals[position] += value
    classes = class_names(view.connection, (each.schema.id for each in found))
    return {
        "project": view.project,
        "revision": view.revision,
        "series": [
            {
                "series": each.name,
                "model": each.model,
                "model_version": each.model_version,
                "variant": each.variant,
                "settings": json.loads(each.settings),
                "settings_hash": each.settings_hash,
                "label_schema": {
                    "name": each.schema.name,
                    "version": each.schema.version,
                    "classes": len(classes[each.schema.id]),
                    "digest": each.schema.digest,
                    "changed": each.schema.changed,
                },
                "tags": dict(each.tags),
                "batches": counts["batches"][at],
                "rows": counts["rows"][at],
                "labelled": counts["rows"][at] - counts["ignored"][at],
                "first": times.text(each.first),
                "last": times.text(each.last),
            }
            for at, each in enumerate(found)
            if counts["batches"][at]
        ],
    }


def options(view: View, selection: Selection, dimension: str) -> dict[str, Any]:
    """Return the values that a parameter can have within a selection, for people to choose from.

    Raises:
        InvalidDocument: there is no such dimension.
    """
    found = matching(view, selection)
    if dimension.startswith(TAG):
        key = dimension.removeprefix(TAG)
        pairs = _same(each.tags[key] for each in found if key in each.tags)
    elif dimension == "class":
        pairs = [(name, name) for name in Classes.of(view, found).names]
    elif dimension in _OPTIONS:
        pairs = _OPTIONS[dimension](found)
    else:
        known = ", ".join((*_OPTIONS, "class", f"{TAG}KEY"))
        raise invalid("/dimension", f"no such dimension; known: {known}")
    return {
        "dimension": dimension,
        "options": [{"value": value, "text": text} for value, text in pairs],
    }


def _same(values: Iterable[str]) -> list[tuple[str, str]]:
    return [(value, value) for value in sorted(set(values))]


def _settings(found: Iterable[Series]) -> list[tuple[str, str]]:
    return sorted({(each.settings_hash, f"{each.variant} {each.settings}") for each in found})


_OPTIONS: Final[Mapping[str, Callable[[list[Series]], list[tuple[str, str]]]]] = {
    "model": lambda found: _same(each.model for each in found),
    "model_version": lambda found: _same(each.model_version for each in found),
    "variant": lambda found: _same(each.variant for each in found),
    "settings": _settings,
    "label_schema": lambda found: _same(str(each.schema) for each in found),
    "tag": lambda found: _same(key for each in found for key in each.tags),
    "metric": lambda _: [(name, f"{name} ({each.unit})") for name, each in METRICS.items()],
}
