"""Projects, series, options, annotations and exports."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sqlalchemy import insert, update

from service.errors import InvalidDocument, UnknownAnnotation, UnknownProject
from service.history import annotations, export, listing, tables, times
from service.history.annotations import Note
from service.history.database import Database
from service.history.questions import Selection, read
from service.history.rollups import bare, refresh_all
from service.history.sums import SCALARS
from tests.service.history.asked import ask
from tests.service.history.histories import (
    NAMES,
    START,
    Batch,
    animals,
    history,
    insert_batches,
    simulated,
    sums_of,
)

BATCHES = [
    *history(minutes=12, rows=5),
    Batch(
        "other",
        START + times.HOUR,
        simulated(np.random.default_rng(0), 5),
        variant="focal",
        settings='{"gamma": 2.0}',
        schema_version=2,
        names=(*NAMES, "eel"),
        tags={"site": "oslo"},
    ),
]


@pytest.fixture
def recorded(database: Database) -> Database:
    insert_batches(database, BATCHES)
    return database


def test_projects_are_listed(recorded: Database) -> None:
    insert_batches(recorded, [Batch("x", START, BATCHES[0].rows, project="a")])
    refresh_all(recorded)
    with recorded.reading() as connection:
        found = listing.projects(connection)["projects"]
    assert [each["project"] for each in found] == ["a", "p"]
    assert found[1] == {
        "project": "p",
        "series": 3,
        "rows": sum(sums_of(each).rows for each in BATCHES),
        "first": times.text(min(each.time for each in BATCHES)),
        "last": "2026-01-01T01:00:00Z",
    }


def test_series_are_listed(recorded: Database) -> None:
    found = ask(recorded, Selection, listing.series)["series"]
    assert [(each["model_version"], each["variant"]) for each in found] == [
        ("v1", "focal"),
        ("v1", "sparse"),
        ("v2", "sparse"),
    ]
    assert found[0]["settings"] == {"gamma": 2.0}
    assert found[0]["tags"] == {"site": "oslo"}
    schema = found[0]["label_schema"]
    assert f"{schema['name']}@{schema['version']}" == animals(*NAMES, "eel")
    assert (schema["classes"], schema["changed"]) == (5, True)
    assert found[1]["label_schema"]["changed"] is False
    mine = [sums_of(each) for each in BATCHES if each.version == "v2"]
    assert found[2]["batches"] == len(mine)
    assert found[2]["rows"] == sum(each.rows for each in mine)
    assert found[2]["labelled"] == sum(each.evaluated for each in mine)


def test_series_of_a_time_count_what_is_in_it(recorded: Database) -> None:
    found = ask(recorded, Selection, listing.series, [("from", "2026-01-01T00:30:00Z")])["series"]
    assert [(each["variant"], each["batches"]) for each in found] == [("focal", 1)]


@pytest.mark.parametrize(
    ("dimension", "values"),
    [
        ("model", ["m"]),
        ("model_version", ["v1", "v2"]),
        ("variant", ["focal", "sparse"]),
        ("label_schema", sorted([animals(*NAMES), animals(*NAMES, "eel")])),
        ("tag", ["site"]),
        ("tag.site", ["oslo"]),
        ("tag.line", []),
        ("class", [*NAMES, "eel"]),
    ],
)
def test_options_are_what_can_be_chosen(
    recorded: Database, dimension: str, values: list[str]
) -> None:
    found = ask(recorded, Selection, lambda seen, of: listing.options(seen, of, dimension))
    assert [each["value"] for each in found["options"]] == values


def test_options_follow_the_selection(recorded: Database) -> None:
    query = [("variant", "sparse")]
    of_sparse = ask(recorded, Selection, lambda s, q: listing.options(s, q, "settings"), query)
    every = ask(recorded, Selection, lambda s, q: listing.options(s, q, "settings"))
    assert len(of_sparse["options"]) == 1
    assert "focal" in every["options"][0]["text"] or "focal" in every["options"][1]["text"]
    assert len(every["options"]) == 2
    metrics = ask(recorded, Selection, lambda s, q: listing.options(s, q, "metric"))
    assert metrics["options"][0] == {"value": "loss.mean", "text": "loss.mean (nats)"}


def test_an_unknown_dimension_is_named(recorded: Database) -> None:
    with pytest.raises(InvalidDocument, match="no such dimension; known: model, model_version"):
        ask(recorded, Selection, lambda s, q: listing.options(s, q, "colour"))


def happened(database: Database, *query: tuple[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(database, Selection, annotations.answer, query)["annotations"]
    return found


def test_what_changed_is_told_by_the_times_of_batches_not_by_their_arrival(
    database: Database,
) -> None:
    late = Batch("late", START + times.HOUR, BATCHES[0].rows, model="n", names=NAMES[::-1])
    early = replace(late, batch_id="early", time=START, schema_version=2, names=NAMES, model="m")
    insert_batches(database, [late, early])
    for query in ([], [("model", "n")]):
        changed = {
            each["model"]: each["label_schema"]["changed"]
            for each in ask(database, Selection, listing.series, query)["series"]
        }
        assert changed == {"n": True} if query else {"m": False, "n": True}
        (told,) = [each for each in happened(database, *query) if each["kind"] == "schema"]
        assert told["time"] == times.text(late.time)
        assert told["text"].endswith(f"changed: {animals(*NAMES[::-1])}")


def test_what_began_is_told(recorded: Database) -> None:
    found = happened(recorded)
    assert [(each["kind"], each["text"]) for each in found] == [
        ("schema", f"the classes of label schema animals changed: {animals(*NAMES, 'eel')}"),
        *(("version", f"first data of m v{version}") for version in by_first()),
    ]
    assert found[0]["time"] == "2026-01-01T01:00:00Z"
    assert [each["kind"] for each in happened(recorded, ("from", found[0]["time"]))] == ["schema"]
    assert happened(recorded, ("to", "2026-01-01T00:00:00Z")) == []


def by_first() -> list[int]:
    first = {
        version: min(each.time for each in BATCHES if each.version == f"v{version}")
        for version in (1, 2)
    }
    return sorted(first, key=lambda version: -first[version])


def test_corrected_hours_are_told(recorded: Database) -> None:
    changed = BATCHES[3]
    with recorded.writing() as connection:
        of = tables.batch.c.batch_id == changed.batch_id
        connection.execute(update(tables.batch).where(of).values(revision=3))
    (told,) = (each for each in happened(recorded) if each["kind"] == "correction")
    assert told["time"] == "2026-01-01T00:00:00Z"
    assert "2 times" in told["text"]


def test_notes_come_and_go(recorded: Database) -> None:
    note = Note.model_validate({"time": "2026-01-01T02:00:00+01:00", "text": "a new camera"})
    made = annotations.write(recorded, "p", note)
    with recorded.writing() as connection:
        project = insert(tables.annotation).values(
            project_id=1, time=START, kind="alert", text="loss is firing"
        )
        connection.execute(project)
    found = happened(recorded)
    assert made in found
    assert made["time"] == "2026-01-01T01:00:00Z"
    (alert,) = (each for each in found if each["kind"] == "alert")
    assert alert["id"] is None
    with bare(recorded, "p") as seen:
        before = seen.revision
    annotations.remove(recorded, "p", str(made["id"]))
    assert made not in happened(recorded)
    with bare(recorded, "p") as seen:
        assert seen.revision == before + 1


@pytest.mark.parametrize("key", ["99", "x", "-1", "9" * 40, "\u0663"])
def test_a_note_that_is_none_cannot_be_removed(recorded: Database, key: str) -> None:
    with pytest.raises(UnknownAnnotation):
        annotations.remove(recorded, "p", key)


def test_what_was_not_written_by_people_stays(recorded: Database) -> None:
    with recorded.writing() as connection:
        alert = insert(tables.annotation).values(project_id=1, time=1, kind="alert", text="x")
        connection.execute(alert)
    with pytest.raises(UnknownAnnotation):
        annotations.remove(recorded, "p", "1")


def test_a_note_is_about_something(recorded: Database) -> None:
    note = Note.model_validate({"time": "2026-01-01T02:00:00Z", "text": "x", "series": "99"})
    with pytest.raises(InvalidDocument, match="no such series"):
        annotations.write(recorded, "p", note)
    with pytest.raises(UnknownProject):
        annotations.write(recorded, "q", note)


def exported(database: Database, *query: tuple[str, str]) -> bytes:
    with bare(database, "p") as seen:
        parts: Iterator[bytes] = export.export(seen, read(export.Question, query))
        return b"".join(parts)


def expected() -> list[Batch]:
    return sorted(
        BATCHES, key=lambda each: (each.model, each.version, each.variant, each.time, each.batch_id)
    )


def test_an_export_holds_every_batch(recorded: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "GROUP", 4)
    file = pq.ParquetFile(io.BytesIO(exported(recorded)))
    assert file.metadata.num_row_groups >= len(BATCHES) // 4
    found = file.read().to_pylist()
    assert [row["batch_id"] for row in found] == [each.batch_id for each in expected()]
    for row, batch in zip(found, expected(), strict=True):
        sums = sums_of(batch)
        assert {name: row[name] for name in SCALARS} == {
            name: getattr(sums, name) for name in SCALARS
        }
        assert row["loss_mean"] == pytest.approx(sums.loss_sum / sums.weight_sum)
        assert times.to_us(row["event_time"]) == batch.time
        assert json.loads(row["tags"]) == batch.tags


def test_exports_as_text_say_the_same(recorded: Database) -> None:
    table = pq.read_table(io.BytesIO(exported(recorded))).to_pylist()
    lines = exported(recorded, ("format", "jsonl")).splitlines()
    texts = list(csv.DictReader(io.StringIO(exported(recorded, ("format", "csv")).decode())))
    assert len(table) == len(lines) == len(texts)
    for row, line, text in zip(table, map(json.loads, lines), texts, strict=True):
        assert list(row) == list(line) == list(text)
        assert row["loss_sum"] == line["loss_sum"] == float(text["loss_sum"])
        assert (
            line["event_time"] == text["event_time"] == times.text(times.to_us(row["event_time"]))
        )
        assert line["settings"] == json.loads(text["settings"])


def test_an_export_is_of_its_selection(recorded: Database) -> None:
    lines = exported(
        recorded, ("format", "jsonl"), ("model_version", "v2"), ("from", "2026-01-01T00:05:00Z")
    ).splitlines()
    chosen = [
        each.batch_id
        for each in expected()
        if each.version == "v2" and each.time >= START + 5 * times.MINUTE
    ]
    assert [json.loads(line)["batch_id"] for line in lines] == chosen


def test_an_export_of_nothing_is_a_file(recorded: Database) -> None:
    empty = exported(recorded, ("model", "x"))
    assert pq.read_table(io.BytesIO(empty)).num_rows == 0
    assert exported(recorded, ("model", "x"), ("format", "jsonl")) == b""
    assert exported(recorded, ("model", "x"), ("format", "csv")).count(b"\n") == 1
