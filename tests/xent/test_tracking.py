"""Batches that the history remembers: tracked once, completed later, validated in a loop."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.service.harness import Running
from tests.xent.answering import HANG_UP, Answering, response
from tests.xent.rows import LABELS, LOGITS, chunks
from xent import Client, Conflict, InvalidBatch, NoAnswer, Refused, Retries, Track
from xent.command import app
from xent.validation import Validation

TRACK = Track("digits", "net", "7", "animals", classes=["ant", "bee", "cat", "dog"])
MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    server = Running(data_dir=tmp_path_factory.mktemp("data"))
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client
    server.stop()


def test_a_batch_is_remembered_once(keeping: Client) -> None:
    track = TRACK.of(batch_id="1", event_time=MOMENT, tags={"region": "eu"})
    first = keeping.loss("sparse", LOGITS, LABELS, track=track)
    again = keeping.loss("sparse", LOGITS, LABELS, track=track)
    assert first.track is not None
    assert again.track is not None
    assert (first.track.status, again.track.status) == ("created", "replayed")
    assert first.track.series == again.track.series
    with pytest.raises(Conflict) as raised:
        keeping.loss("sparse", -LOGITS, LABELS, track=track)
    assert raised.value.type == "/problems/batch-conflict"


def test_whoever_names_no_batch_gets_a_new_one_each_time(keeping: Client) -> None:
    answers = [keeping.loss("sparse", LOGITS, LABELS, track=TRACK).track for _ in range(2)]
    assert [each.status for each in answers if each] == ["created"] * 2


def test_streams_and_comparisons_are_remembered_too(keeping: Client) -> None:
    stream = keeping.loss("sparse", list(chunks()), track=TRACK.of(batch_id="stream"))
    assert stream.track is not None
    found = keeping.compare(
        LOGITS, LABELS, variants=["sparse", "focal"], track=TRACK.of(batch_id="compared")
    )
    series = {each.track.series for each in found.results if each.track}
    assert len(series) == 2


def test_labels_come_later(keeping: Client) -> None:
    ids = np.array([f"row {at}" for at in range(60)])
    track = TRACK.of(
        batch_id="late", pending=True, sample_ids=ids, expires_at="2100-01-01T00:00:00Z"
    )
    answer = keeping.loss("sparse", LOGITS, track=track)
    assert answer.track is not None
    assert answer.track.pending
    done = keeping.labels("digits", "net", "7", "late", LABELS, variant="sparse")
    (row,) = done.rows()
    assert row["status"] == "completed"
    expected = keeping.loss("sparse", LOGITS, LABELS).loss
    assert row["loss"] == pytest.approx(expected, rel=1e-6)
    some = keeping.labels(
        "digits", "net", "7", "late", pa.array(LABELS[:2]), sample_ids=ids[:2].tolist()
    )
    assert some["status"].tolist() == ["unchanged"]


def test_what_is_wrong_with_it_is_said(keeping: Client) -> None:
    with pytest.raises(InvalidBatch, match="event_time has no time zone"):
        keeping.loss("sparse", LOGITS, LABELS, track=TRACK.of(event_time=datetime(2026, 1, 1)))  # noqa: DTZ001
    with pytest.raises(Refused) as raised:
        keeping.loss("sparse", LOGITS, LABELS, track=TRACK.of(project="a/b"))
    assert raised.value.pointers == ("/track/project",)
    with pytest.raises(Refused, match="class"):
        keeping.loss("sparse", LOGITS, LABELS, track=TRACK.of(classes=["one"]))


def test_the_command_tracks(keeping: Client, tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", logits=LOGITS, labels=LABELS)
    arguments = ["loss", "sparse", str(tmp_path / "b.npz"), "--url", keeping.configuration.url]
    tracking = {
        "--project": "digits",
        "--model": "net",
        "--model-version": "8",
        "--label-schema": "animals",
        "--batch-id": "by hand",
        "--event-time": "2026-01-31T12:00:00Z",
        "--tag": "region=eu",
    }
    words = [word for pair in tracking.items() for word in pair]
    assert app.run([*arguments, *words]) == 0


def test_a_validation_is_tracked_batch_by_batch(keeping: Client) -> None:
    validation = Validation(keeping, "focal", TRACK.of(model_version="9"), gamma=1.0)
    for epoch in range(2):
        validation.begin(epoch)
        for logits, labels in chunks():
            answer = validation.batch(torch.from_numpy(logits), torch.from_numpy(labels))
            assert answer is not None
            assert answer.track is not None
            assert answer.track.status == "created"
    whole = keeping.loss("focal", LOGITS, LABELS, gamma=1.0).loss
    assert validation.loss == pytest.approx(whole, rel=1e-6)
    assert len(validation.answers) == 5


def test_training_goes_on_when_nobody_is_there_to_watch() -> None:
    once = Retries(attempts=1)
    answers = [HANG_UP, response(429), response(422)]
    with Answering(answers) as server, Client(server.url, retries=once) as client:
        validation = Validation(client, "sparse", TRACK)
        for _ in range(2):
            with pytest.warns(UserWarning, match="a batch was not tracked"):
                assert validation.batch(LOGITS, LABELS) is None
        assert (validation.missed, validation.loss) == (2, None)
        with pytest.raises(Refused):
            validation.batch(LOGITS, LABELS)
    with Answering([HANG_UP]) as server, Client(server.url, retries=once) as client:
        strict = Validation(client, "sparse", TRACK, strict=True)
        with pytest.raises(NoAnswer):
            strict.batch(LOGITS, LABELS)


def test_everything_that_can_be_said_is_sent() -> None:
    track = TRACK.of(
        batch_id="1",
        event_time="2026-01-31T12:00:00Z",
        tags={"a": "b"},
        cluster_ids=torch.arange(3),
        sample_ids=["a", 1, "c"],
        pending=True,
        expires_at=MOMENT,
    )
    document = track.document()
    fields = {each.name for each in dataclasses.fields(Track)} - {"classes"}
    assert set(document) == fields
    assert document["label_schema"] == {"name": "animals", "classes": TRACK.classes}
    assert document["expires_at"] == "2026-01-31T12:00:00+00:00"
    assert document["cluster_ids"] == [0, 1, 2]
