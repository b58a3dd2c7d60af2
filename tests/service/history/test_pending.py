"""Late labels: kept, corrected, completed, expired."""

from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import func, select

from service.errors import LabelsTooLate, Outdated, SumsOverflow, UnknownBatch
from service.history import pending
from service.history.database import Database
from service.history.entries import Corrected, Correction, KeptBatch
from service.history.recorder import Recorder
from service.history.sums import from_columns
from service.history.sweeper import Sweeper
from service.history.tables import dirty, project
from service.history.tables import pending as pending_table
from service.history.times import HOUR, MINUTE, floor
from tests.service.history.samples import CLASSES, NOON, batches, contents, entry, sums, waiting
from tests.service.history.starting import logger, recording

pytestmark = pytest.mark.anyio

NAME = ("zoo", "eyes", "1", "batch-1")
NOW = NOON + HOUR


@pytest.fixture
async def recorder(database: Database) -> AsyncIterator[Recorder]:
    async with recording(database, now=NOW) as started:
        yield started


def revision(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.execute(select(project.c.revision)).scalar_one())


def forget_dirty(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(dirty.delete())


def dirty_minutes(database: Database) -> list[int]:
    with database.reading() as connection:
        return list(connection.execute(select(dirty.c.start)).scalars())


async def one(recorder: Recorder, number: int = 1) -> KeptBatch:
    (outcome,) = await recorder.record([entry(number, kept=waiting())])
    assert outcome.pending
    (found,) = await recorder.kept(*NAME[:3], f"batch-{number}")
    return found


async def test_what_is_kept_comes_back_as_it_came(recorder: Recorder) -> None:
    found = await one(recorder)
    plain = entry(1)
    assert (found.batch_id, found.variant, found.classes) == ("batch-1", "sparse", CLASSES)
    assert (found.settings_hash, found.event_time) == (plain.key.settings_hash, plain.event_time)
    assert (found.path, found.media_type, found.body) == (
        "/loss/sparse",
        "application/json",
        b"logits",
    )
    assert (found.labels, found.revision, found.pending) == (None, 1, True)


async def test_batches_of_a_name_are_found_by_variant(recorder: Recorder) -> None:
    variants = [entry(1, variant=name, kept=waiting()) for name in ("poly", "focal")]
    outcomes = await recorder.record([*variants, entry(1)])
    assert [each.pending for each in outcomes] == [True, True, False]
    assert [each.variant for each in await recorder.kept(*NAME)] == ["focal", "poly"]
    assert [each.variant for each in await recorder.kept(*NAME, "poly")] == ["poly"]
    with pytest.raises(LabelsTooLate, match="not kept"):
        await recorder.kept(*NAME, "sparse")
    for other in (
        (*NAME, "dice"),
        ("farm", *NAME[1:]),
        ("zoo", "ears", "1", "batch-1"),
        ("zoo", "eyes", "2", "batch-1"),
        (*NAME[:3], "batch-2"),
    ):
        with pytest.raises(UnknownBatch, match="no batch of this name"):
            await recorder.kept(*other)


async def test_labels_replace_the_sums_and_add_nothing(
    recorder: Recorder, database: Database
) -> None:
    found = await one(recorder)
    forget_dirty(database)
    before = revision(database)
    (outcome,) = await recorder.correct(
        [Correction(found.batch_key, sums(100), b"labels", pending=False, revision=1)]
    )
    assert outcome == Corrected("completed", found.series, 2, pending=False)
    (row,) = batches(database)
    assert from_columns(row).columns() == sums(100).columns()
    assert (row["revision"], row["pending"]) == (2, False)
    assert dirty_minutes(database) == [floor(entry(1).event_time, MINUTE)]
    assert revision(database) == before + 1


async def test_the_same_labels_again_change_nothing(recorder: Recorder, database: Database) -> None:
    found = await one(recorder)
    correction = Correction(found.batch_key, sums(100), b"labels", pending=False, revision=1)
    await recorder.correct([correction])
    before = contents(database)
    (again,) = await recorder.correct([correction])
    assert again == Corrected("unchanged", found.series, 2, pending=False)
    assert contents(database) == before


async def test_labels_come_in_parts_and_are_corrected(recorder: Recorder) -> None:
    found = await one(recorder)

    async def correct(labels: bytes, *, waits: bool) -> str:
        correction = Correction(found.batch_key, sums(len(labels)), labels, pending=waits)
        (outcome,) = await recorder.correct([correction])
        return outcome.status

    assert await correct(b"1", waits=True) == "corrected"
    (half,) = await recorder.kept(*NAME)
    assert (half.labels, half.revision, half.pending) == (b"1", 2, True)
    assert await correct(b"12", waits=False) == "completed"
    assert await correct(b"123", waits=False) == "corrected"
    (whole,) = await recorder.kept(*NAME)
    assert (whole.labels, whole.revision, whole.pending) == (b"123", 4, False)


async def test_labels_that_came_at_the_same_time_do_not_overwrite_each_other(
    recorder: Recorder, database: Database
) -> None:
    found = await one(recorder)
    first, second = (
        Correction(found.batch_key, sums(number), labels, pending=True, revision=found.revision)
        for number, labels in ((8, b"one"), (9, b"other"))
    )
    await recorder.correct([first])
    before = contents(database)
    with pytest.raises(Outdated, match="send these again"):
        await recorder.correct([second])
    assert contents(database) == before
    await recorder.correct([replace(second, revision=2)])


async def test_corrections_are_made_all_or_none(recorder: Recorder, database: Database) -> None:
    one_batch, other = await one(recorder, 1), await one(recorder, 2)
    good = Correction(one_batch.batch_key, sums(8), b"labels", pending=False)
    bad = Correction(other.batch_key, replace(sums(9), loss_sum=np.nan), b"labels", pending=False)
    before = contents(database)
    with pytest.raises(SumsOverflow):
        await recorder.correct([good, bad])
    with pytest.raises(LabelsTooLate):
        await recorder.correct([good, replace(bad, batch_key=999)])
    assert contents(database) == before


async def test_a_batch_that_is_sent_again_after_its_labels_is_what_it_became(
    recorder: Recorder,
) -> None:
    found = await one(recorder)
    await recorder.correct([Correction(found.batch_key, sums(8), b"labels", pending=False)])
    (again,) = await recorder.record([entry(1, kept=waiting())])
    assert (again.status, again.revision, again.pending) == ("replayed", 2, False)


async def test_what_has_expired_takes_no_labels(recorder: Recorder, database: Database) -> None:
    await recorder.record([entry(1, kept=waiting(expires_at=NOW))])
    with pytest.raises(LabelsTooLate):
        await recorder.kept(*NAME)
    (row,) = batches(database)
    with pytest.raises(LabelsTooLate):
        await recorder.correct([Correction(row["id"], sums(8), b"labels", pending=False)])


async def test_expired_logits_go_and_their_batches_stay(
    recorder: Recorder, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "PURGED_AT_ONCE", 2)
    for number in range(5):
        await recorder.record([entry(number, kept=waiting(expires_at=NOW - number))])
    await recorder.record([entry(5, kept=waiting(expires_at=NOW + 1)), entry(6)])
    forget_dirty(database)
    before = {row["batch_id"]: row for row in batches(database)}
    sweeper = Sweeper(database, recorder, days=0, log=logger([]), clock=lambda: NOW)
    await sweeper.sweep()
    after = {row["batch_id"]: row for row in batches(database)}
    assert [row["pending"] for row in after.values()] == [False] * 5 + [True, False]
    for name, row in after.items():
        assert {**row, "pending": before[name]["pending"]} == before[name]
    with database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(pending_table)) == 1
    assert dirty_minutes(database) == [floor(NOON, MINUTE)]  # all of one minute
    before_again = contents(database)
    await sweeper.sweep()
    assert contents(database) == before_again
