"""Recording: once, in any order, all or nothing."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import delete, select

from service.errors import (
    BatchConflict,
    HistoryUnavailable,
    InvalidDocument,
    SchemaMismatch,
    ServiceError,
    SumsOverflow,
    TooLarge,
    TooOld,
    UnknownSchema,
)
from service.history import writer
from service.history.changes import Changes
from service.history.database import Database
from service.history.entries import Entry, Outcome
from service.history.recorder import Recorder, RecorderLimits
from service.history.sums import CLASS, from_columns
from service.history.tables import METADATA, batch, dirty, label_schema, project, series
from service.history.times import DAY, MINUTE, floor
from service.history.track import SchemaRef
from tests.service.harness import PATIENCE_S, until
from tests.service.history.conftest import MakeDatabase
from tests.service.history.samples import (
    CLASSES,
    NOON,
    batches,
    contents,
    entry,
    sums,
    waiting,
)
from tests.service.history.starting import blocked, recording, submit

pytestmark = pytest.mark.anyio


@pytest.fixture
async def recorder(database: Database) -> AsyncIterator[Recorder]:
    async with recording(database) as started:
        yield started


def answers(futures: list["Future[list[Outcome]]"]) -> list[str]:
    return sorted(
        outcome.status for future in futures for outcome in future.result(timeout=PATIENCE_S)
    )


def called(database: Database, series_id: int) -> str:
    with database.reading() as connection:
        name: str = connection.execute(
            select(series.c.name).where(series.c.id == series_id)
        ).scalar_one()
        return name


async def test_a_batch_is_stored_as_it_is(recorder: Recorder, database: Database) -> None:
    (outcome,) = await recorder.record([entry(1)])
    assert outcome == Outcome("created", outcome.series, 1, pending=False)
    (row,) = batches(database)
    stored, given = from_columns(row), sums(1)
    assert stored.columns() == given.columns()
    assert (row["revision"], row["pending"]) == (1, False)
    assert called(database, row["series_id"]) == outcome.series
    assert (row["batch_id"], row["digest"]) == ("batch-1", entry(1).digest)
    assert row["event_time"] == entry(1).event_time


async def test_a_batch_that_is_sent_again_is_there_already(
    recorder: Recorder, database: Database
) -> None:
    (first,) = await recorder.record([entry(1)])
    before = contents(database)
    (again,) = await recorder.record([entry(1)])
    assert again == replace(first, status="replayed")
    assert contents(database) == before


@pytest.mark.parametrize(
    "other",
    [
        entry(1, body=b"other"),
        entry(1, tags={"site": "north"}),
        entry(1, label_schema=SchemaRef("animals", (*CLASSES, "yak"))),
        entry(1, label_schema=SchemaRef("beasts", CLASSES)),
        entry(1, label_schema=SchemaRef("beasts", None)),
    ],
)
async def test_another_batch_of_that_name_changes_nothing(
    recorder: Recorder, database: Database, other: Entry
) -> None:
    await recorder.record([entry(1), entry(3)])
    before = contents(database)
    with pytest.raises(BatchConflict, match="give this one another batch_id"):
        await recorder.record([entry(2), other])
    assert contents(database) == before


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        (entry(1, label_schema=SchemaRef("unheard", None)), UnknownSchema),
        (entry(1, label_schema=SchemaRef("two", ("a", "b"))), SchemaMismatch),
        (entry(1, sums=replace(sums(1), loss_square_sum=np.inf)), SumsOverflow),
        (entry(1, sums=replace(sums(1), loss_max=np.nan)), SumsOverflow),
        (entry(1, sums=replace(sums(1), hardest=[{"loss": np.inf}])), SumsOverflow),
        (entry(1, event_time=NOON - 401 * DAY), TooOld),
        (entry(1, batch_id="a\0b"), InvalidDocument),
        (entry(1, tags={"a": "\0"}), InvalidDocument),
        (entry(1, label_schema=SchemaRef("nul", ("a", "b", "\0"))), InvalidDocument),
        (entry(1, kept=waiting(b"x" * 1001)), TooLarge),
    ],
)
async def test_what_cannot_be_stored_changes_nothing(
    recorder: Recorder, database: Database, refused: Entry, error: type[ServiceError]
) -> None:
    await recorder.record([entry(0)])
    before = contents(database)
    with pytest.raises(error):
        await recorder.record([entry(2), refused])
    assert contents(database) == before


async def test_a_number_in_an_array_that_is_not_finite_is_not_stored(recorder: Recorder) -> None:
    classes = np.zeros(1, CLASS)
    classes["loss_weight_sum"] = np.nan
    with pytest.raises(SumsOverflow, match="exceeds float64"):
        await recorder.record([entry(1, sums=replace(sums(1), classes=classes))])


async def test_one_request_is_one_transaction(recorder: Recorder, database: Database) -> None:
    several = [entry(1, variant=variant) for variant in ("sparse", "focal", "poly")]
    outcomes = await recorder.record(several)
    assert len({outcome.series for outcome in outcomes}) == 3
    assert [outcome.status for outcome in outcomes] == ["created"] * 3
    with database.reading() as connection:
        assert connection.execute(select(project.c.name, project.c.revision)).one() == ("zoo", 1)


async def test_the_same_batch_twice_in_a_request_is_stored_once(recorder: Recorder) -> None:
    one, other = await recorder.record([entry(1), entry(1)])
    assert (one.status, other.status) == ("created", "replayed")


async def test_a_conflict_does_not_undo_what_shares_its_transaction(
    recorder: Recorder, database: Database
) -> None:
    await recorder.record([entry(0)])
    with blocked(recorder):
        futures = [submit(recorder, [entry(n)]) for n in (1, 2)]
        conflict = submit(recorder, [entry(3), entry(0, body=b"other")])
        futures.append(submit(recorder, [entry(4)]))
    assert answers(futures) == ["created"] * 3
    assert isinstance(conflict.exception(timeout=PATIENCE_S), BatchConflict)
    assert [row["batch_id"] for row in batches(database)] == [f"batch-{n}" for n in (0, 1, 2, 4)]
    with database.reading() as connection:
        # One for the first, one for the block, one for all that waited.
        assert connection.scalar(select(project.c.revision)) == 2


async def test_a_batch_is_known_to_those_behind_it_in_its_transaction(
    recorder: Recorder, database: Database
) -> None:
    with blocked(recorder):
        first, again = submit(recorder, [entry(1)]), submit(recorder, [entry(1)])
        after = submit(recorder, [entry(2, label_schema=SchemaRef("animals", None))])
    assert [answers([each]) for each in (first, again, after)] == [
        ["created"],
        ["replayed"],
        ["created"],
    ]
    with blocked(recorder):
        first, again = submit(recorder, [entry(3)]), submit(recorder, [entry(3), entry(4)])
        conflicts = [
            submit(recorder, [entry(5), other])
            for other in (
                entry(3, body=b"other"),
                entry(3, tags={"site": "north"}),
                entry(3, label_schema=SchemaRef("beasts", CLASSES)),
                entry(3, label_schema=SchemaRef("animals", CLASSES[:2])),
            )
        ]
        after = submit(recorder, [entry(3), entry(6)])
    assert answers([first, again, after]) == ["created"] * 3 + ["replayed"] * 2
    for conflict in conflicts:
        assert isinstance(conflict.exception(timeout=PATIENCE_S), BatchConflict)
    assert [row["batch_id"] for row in batches(database)] == [
        f"batch-{number}" for number in (1, 2, 3, 4, 6)
    ]


@pytest.mark.parametrize("conflicts", [False, True])
async def test_logits_that_wait_go_with_their_own_batch(
    recorder: Recorder, *, conflicts: bool
) -> None:
    await recorder.record([entry(0)])
    bodies = {number: f"logits {number}".encode() for number in (1, 3, 4)}
    kept = {number: waiting(body) for number, body in bodies.items()}
    with blocked(recorder):
        futures = [
            submit(recorder, [entry(number, kept=kept.get(number)) for number in group])
            for group in ((1, 2), (3,), (4, 5))
        ]
        if conflicts:
            submit(recorder, [entry(0, body=b"other")])
    assert answers(futures) == ["created"] * 5
    for number, body in bodies.items():
        (found,) = await recorder.kept("zoo", "eyes", "1", f"batch-{number}")
        assert (found.body, found.pending, found.labels) == (body, True, None)
        assert found.event_time == entry(number).event_time


async def test_other_work_sees_what_was_recorded_before_it_and_what_comes_sees_its_own(
    recorder: Recorder, database: Database
) -> None:
    def empty(changes: Changes) -> int:
        return changes.connection.execute(delete(batch)).rowcount

    await recorder.record([entry(0)])
    with blocked(recorder):
        before = submit(recorder, [entry(0), entry(1)])
        removed = recorder._writer.submit(empty)
        after = submit(recorder, [entry(1), entry(2)])
    assert answers([before]) == ["created", "replayed"]
    assert removed.result(timeout=PATIENCE_S) == 2
    assert answers([after]) == ["created", "created"]
    assert [row["batch_id"] for row in batches(database)] == ["batch-1", "batch-2"]


async def test_another_database_in_its_place_is_not_taken_for_the_first(
    recorder: Recorder, database: Database
) -> None:
    await recorder.record([entry(0)])
    with database.writing() as connection:
        for table in reversed(METADATA.sorted_tables):
            connection.execute(delete(table))
    with blocked(recorder):
        futures = [submit(recorder, [entry(number)]) for number in (1, 2)]
    assert answers(futures) == ["created"] * 2
    with database.reading() as connection:
        assert connection.execute(select(project.c.name, project.c.revision)).all() == [("zoo", 2)]


async def test_a_database_error_does_not_undo_what_shares_its_transaction(
    recorder: Recorder, database: Database
) -> None:
    def fail(changes: Changes) -> None:
        changes.connection.exec_driver_sql("SELECT nothing FROM nowhere")

    with blocked(recorder):
        before = submit(recorder, [entry(1)])
        failed = recorder._writer.submit(fail)
        after = submit(recorder, [entry(2)])
    assert answers([before, after]) == ["created"] * 2
    assert "nowhere" in str(failed.exception(timeout=PATIENCE_S))
    assert len(batches(database)) == 2


async def test_eight_threads_with_one_batch_store_it_once(
    recorder: Recorder, database: Database
) -> None:
    start = threading.Barrier(8)
    futures: list[Future[list[Outcome]]] = []

    def send() -> None:
        start.wait()
        futures.extend(submit(recorder, [entry(number)]) for number in range(20))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers(futures) == ["created"] * 20 + ["replayed"] * 140
    assert len(batches(database)) == 20


async def test_the_order_of_events_does_not_matter(
    make_database: MakeDatabase,
) -> None:
    entries = [
        entry(number, model_version=str(number % 2), tags={"site": str(number % 3)})
        for number in range(24)
    ]
    orders = [entries, entries[::-1], entries[::2] + entries[1::2]]
    found = []
    for order in orders:
        database = make_database()
        async with recording(database) as recorder:
            for at in range(0, len(order), 5):
                await recorder.record(order[at : at + 5])
        rows = batches(database)
        for row in rows:
            for name in ("id", "series_id", "received"):
                del row[name]
        found.append(rows)
    assert found[0] == found[1] == found[2]


async def test_minutes_become_dirty_and_the_project_newer(
    recorder: Recorder, database: Database
) -> None:
    outcome, *_ = await recorder.record(
        [entry(1), entry(2), entry(3, event_time=NOON + 3 * MINUTE)]
    )
    with database.reading() as connection:
        marked = [tuple(row) for row in connection.execute(select(dirty).order_by(dirty.c.start))]
    assert [(called(database, key), start) for key, start in marked] == [
        (outcome.series, floor(NOON, MINUTE)),
        (outcome.series, floor(NOON, MINUTE) + 3 * MINUTE),
    ]
    await recorder.record([entry(1)])
    await recorder.record([entry(4)])
    await recorder.record([entry(5, project="farm")])
    with database.reading() as connection:
        wanted = select(project.c.name, project.c.revision)
        assert {row.name: row.revision for row in connection.execute(wanted)} == {
            "zoo": 2,
            "farm": 1,
        }


async def test_a_schema_is_declared_once_and_used_by_name(
    recorder: Recorder, database: Database
) -> None:
    (first,) = await recorder.record([entry(1)])
    (named,) = await recorder.record([entry(2, label_schema=SchemaRef("animals", None))])
    assert named.series == first.series
    with database.reading() as connection:
        assert json.loads(connection.execute(select(label_schema.c.classes)).scalar_one()) == [
            *CLASSES
        ]
    for where, name in (("farm", "animals"), ("zoo", "beasts")):
        with pytest.raises(UnknownSchema) as caught:
            await recorder.record([entry(3, project=where, label_schema=SchemaRef(name, None))])
        assert caught.value.faults[0].pointer == "/track/label_schema"
        assert name not in str(caught.value)


async def test_other_classes_are_a_new_version_and_a_new_series(
    recorder: Recorder, database: Database
) -> None:
    more = SchemaRef("animals", (*CLASSES, "yak"))
    (first,) = await recorder.record([entry(1)])
    (second,) = await recorder.record([entry(2, label_schema=more)])
    (third,) = await recorder.record([entry(3, label_schema=SchemaRef("animals", None))])
    (fourth,) = await recorder.record([entry(4)])  # the first version still stands
    assert second.series != first.series
    assert (third.series, fourth.series) == (second.series, first.series)
    with database.reading() as connection:
        wanted = select(label_schema.c.version).order_by(label_schema.c.id)
        assert list(connection.execute(wanted).scalars()) == [1, 2]


async def test_a_batch_by_schema_name_is_the_same_after_a_new_version(recorder: Recorder) -> None:
    named = entry(2, label_schema=SchemaRef("animals", None))
    await recorder.record([entry(1)])
    (first,) = await recorder.record([named])
    await recorder.record([entry(3, label_schema=SchemaRef("animals", (*CLASSES, "yak")))])
    assert await recorder.record([named]) == [replace(first, status="replayed")]


async def test_tags_of_any_length_tell_series_apart(recorder: Recorder) -> None:
    letters = np.random.default_rng(7).integers(0x4E00, 0x9FFF, (2, 16, 256))  # compress badly
    tags = [
        {f"tag-{number}": "".join(map(chr, text)) for number, text in enumerate(texts)}
        for texts in letters
    ]
    outcomes = await recorder.record([entry(n, tags=each) for n, each in enumerate([*tags, {}])])
    assert len({outcome.series for outcome in outcomes}) == 3
    shuffled = dict(reversed(tags[0].items()))
    (again,) = await recorder.record([entry(9, tags=shuffled)])
    assert again.series == outcomes[0].series


async def test_what_is_older_than_is_kept_is_refused(database: Database) -> None:
    limits = RecorderLimits(retention_days=3)
    midnight = floor(NOON, DAY)
    async with recording(database, limits) as recorder:
        await recorder.record([entry(1, event_time=midnight - 3 * DAY)])
        with pytest.raises(TooOld, match="is not kept") as caught:
            await recorder.record([entry(2, event_time=midnight - 3 * DAY - 1)])
        assert caught.value.faults[0].pointer == "/track/event_time"
    async with recording(database, RecorderLimits(retention_days=0)) as recorder:
        await recorder.record([entry(3, event_time=0)])


async def test_nothing_is_taken_before_the_start_and_after_the_stop(database: Database) -> None:
    async with recording(database) as recorder:
        pass
    with pytest.raises(HistoryUnavailable, match="stopping"):
        await recorder.record([entry(1)])


async def test_a_stop_writes_what_waits(database: Database) -> None:
    async with recording(database) as recorder:
        with blocked(recorder):
            futures = [submit(recorder, [entry(number)]) for number in range(600)]
    assert all(future.done() for future in futures)
    assert answers(futures) == ["created"] * 600
    assert len(batches(database)) == 600


async def test_the_queue_is_bounded(database: Database) -> None:
    async with recording(database, RecorderLimits(queue=3)) as recorder:
        with blocked(recorder):
            futures = [submit(recorder, [entry(number)]) for number in range(3)]
            with pytest.raises(HistoryUnavailable, match="3 requests wait") as caught:
                await recorder.record([entry(3)])
            assert caught.value.retry_after_s == 1
            assert recorder.waiting == 3
        assert answers(futures) == ["created"] * 3
        await recorder.record([entry(3)])


async def test_what_waits_is_bounded_in_bytes(database: Database) -> None:
    body = b"x" * 800
    async with recording(database, RecorderLimits(queue_bytes=1000)) as recorder:
        with blocked(recorder):
            alone = submit(recorder, [entry(0, kept=waiting(body))])
            with pytest.raises(HistoryUnavailable, match="1 requests wait"):
                submit(recorder, [entry(1, kept=waiting(body))])
        assert answers([alone]) == ["created"]


async def test_an_answer_that_takes_too_long_is_not_waited_for(database: Database) -> None:
    async with recording(database, RecorderLimits(deadline_s=0.05)) as recorder:
        with blocked(recorder), pytest.raises(HistoryUnavailable, match=r"within 0\.05 s"):
            await recorder.record([entry(1)])
        assert submit(recorder, [entry(2)]).result(timeout=PATIENCE_S)
    assert [row["batch_id"] for row in batches(database)] == ["batch-2"]  # the first was given up


async def test_a_commit_waits_for_who_is_on_the_way(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(writer, "PATIENCE", 1e9)
    on_the_way = [1]
    async with recording(database, answering=lambda: on_the_way[0]) as recorder:
        for number in range(2):  # who is alone waits for nobody
            await asyncio.wait_for(recorder.record([entry(number)]), PATIENCE_S / 2)
        on_the_way = [3]
        first = asyncio.ensure_future(recorder.record([entry(2)]))
        await asyncio.sleep(0)
        until(lambda: recorder._writer._awaits_company)
        second = asyncio.ensure_future(recorder.record([entry(3)]))
        await asyncio.sleep(0)
        assert recorder.waiting == 2
        await asyncio.wait_for(recorder.record([entry(4)]), PATIENCE_S / 2)
        await asyncio.gather(first, second)
    with database.reading() as connection:
        assert (
            connection.scalar(select(project.c.revision)) == 3
        )  # one commit each, and one for all three


async def test_nobody_waits_longer_than_two_commits_for_who_has_nothing_to_write(
    database: Database,
) -> None:
    async with recording(database, answering=lambda: 1000) as recorder:
        for number in range(3):
            await recorder.record([entry(number)])
    assert len(batches(database)) == 3


async def test_a_stop_waits_for_nobody(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(writer, "PATIENCE", 1e9)
    on_the_way = [0]
    async with recording(database, answering=lambda: on_the_way[0]) as recorder:
        await recorder.record([entry(0)])
        on_the_way = [1000]
        waits = submit(recorder, [entry(1)])
        await asyncio.wait_for(recorder.stop(), PATIENCE_S / 2)
        assert answers([waits]) == ["created"]
