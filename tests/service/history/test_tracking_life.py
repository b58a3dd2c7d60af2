"""Tracking while others do so too, clients leave, servers stop and the database is away."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from service.history.database import Database, sqlite_url
from tests.service.batches import safetensors
from tests.service.conftest import Start
from tests.service.harness import BATCH, PATIENCE_S, SAFETENSORS, until
from tests.service.history.tracked import (
    CLASSES,
    IDS,
    History,
    body_of,
    checked,
    document,
    same,
    track,
)

CLIENTS = 8


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    found = History.start(tmp_path_factory.mktemp("life"), workers=2)
    yield found
    found.running.stop()


def test_of_eight_clients_that_send_the_same_one_adds_it(history: History) -> None:
    body = body_of(SAFETENSORS, "together")
    ready = threading.Barrier(CLIENTS)

    def send(_: int) -> tuple[str, str]:
        ready.wait(PATIENCE_S)
        mark = history.send("/loss/sparse", body, SAFETENSORS)["track"]
        return mark["status"], mark["series"]

    with ThreadPoolExecutor(CLIENTS) as pool:
        statuses, series = zip(*pool.map(send, range(CLIENTS)), strict=True)
    assert sorted(statuses) == ["created", *["replayed"] * (CLIENTS - 1)]
    assert len(set(series)) == 1
    assert history.sums("together").batches == 1


def test_of_eight_clients_that_say_different_things_one_is_heard(history: History) -> None:
    ready = threading.Barrier(CLIENTS)

    def send(number: int) -> int:
        request = {**document("contested", sample_ids=IDS), "k": number + 1}
        ready.wait(PATIENCE_S)
        return history.client.post("/loss/sparse", json=request).status_code

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert sorted(pool.map(send, range(CLIENTS))) == [200, *[409] * (CLIENTS - 1)]
    assert len(history.batches("contested")) == 1


def test_eight_clients_with_batches_of_their_own(history: History) -> None:
    history.post("/loss/sparse", document("alone", sample_ids=IDS))

    def send(number: int) -> str:
        name = f"own {number}"
        mark = history.post("/loss/sparse", document(name, sample_ids=IDS))["track"]
        assert mark["status"] == "created"
        return name

    with ThreadPoolExecutor(CLIENTS) as pool:
        for name in pool.map(send, range(3 * CLIENTS)):
            same(history.sums(name), history.sums("alone"))


def sending(history: History, body: bytes, size: int | None = None) -> socket.socket:
    """Send a batch, or the beginning of it; nobody reads the answer."""
    head = (
        "POST /loss/sparse HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: {SAFETENSORS}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", history.running.port))
    connection.sendall(head.encode() + body[:size])
    return connection


def test_a_client_that_leaves_finds_its_batch_stored_once_or_not_at_all(
    start: Start, tmp_path: Path
) -> None:
    history = History(start(workers=2), sqlite_url(tmp_path))
    for attempt in range(12):
        name = f"left {attempt}"
        body = body_of(SAFETENSORS, name, outputs=["gradient"])
        sending(history, body).close()
        # A request is counted at its end: before that, what nobody waits for may still be stored.
        until(partial(ended, history, 2 * attempt + 1))
        stored = bool(history.batches(name))
        mark = history.send("/loss/sparse", body, SAFETENSORS)["track"]
        assert mark["status"] == ("replayed" if stored else "created")
        assert len(history.batches(name)) == 1
    assert history.running.alive()


def ended(history: History, requests: int) -> bool:
    """Tell whether so many requests have ended."""
    (family,) = history.running.metrics.requests.collect()
    counts = [each.value for each in family.samples if each.name == "xent_requests_total"]
    return sum(counts) == requests


def test_clients_that_leave_while_their_batches_are_stored(start: Start, tmp_path: Path) -> None:
    history = History(start(workers=2), sqlite_url(tmp_path))
    bodies = {name: body_of(SAFETENSORS, name) for name in ("first", "second", "third")}
    writer = history.running.tracking._recorder._writer
    other = Database(sqlite_url(tmp_path))
    with other.writing(), mock.patch.object(writer, "_take", wraps=writer._take) as take:
        # Whoever else writes waits.
        connections = [sending(history, body) for body in bodies.values()]
        until(lambda: take.call_count == len(bodies) and writer.waiting < len(bodies))
        for connection in connections:
            connection.close()
    other.close()
    until(lambda: not history.running.server.engine.admitted)
    stored = [name for name in bodies if history.batches(name)]
    assert stored
    for name, body in bodies.items():
        mark = history.send("/loss/sparse", body, SAFETENSORS)["track"]
        assert mark["status"] == ("replayed" if name in stored else "created")


def test_half_a_body_stores_nothing(history: History) -> None:
    with closing(sending(history, body_of(SAFETENSORS, "half"), -1)):
        until(lambda: history.running.server.engine.admitted)
    until(lambda: not history.running.server.engine.admitted)
    assert not history.batches("half")


def test_the_history_outlives_the_service(tmp_path: Path) -> None:
    first = History.start(tmp_path)
    mark = first.post("/loss/sparse", document("before"))["track"]
    pending = {"logits": BATCH["logits"], "track": track("waits", pending=True)}
    first.post("/loss/sparse", pending)
    first.running.stop()
    second = History.start(tmp_path)
    try:
        again = second.post("/loss/sparse", document("before"))["track"]
        assert again == {**mark, "status": "replayed"}
        names = {name: track("waits")[name] for name in ("project", "model", "model_version")}
        late = {**names, "batch_id": "waits", "labels": BATCH["labels"]}
        assert second.post("/labels", late)["batches"][0]["status"] == "completed"
    finally:
        second.running.stop()


def test_a_database_of_ones_own(start: Start, database_url: str) -> None:
    found = History(start(database_url=database_url), database_url)
    found.post("/loss/sparse", document("elsewhere", sample_ids=IDS))
    tracked = track("waits", pending=True, sample_ids=IDS)
    found.post("/loss/sparse", {**document("waits"), "track": tracked})
    request = {**tracked, "labels": document("waits")["labels"]}
    for name in ("event_time", "label_schema", "pending", "sample_ids"):
        del request[name]
    assert found.post("/labels", request)["batches"][0]["status"] == "completed"
    same(found.sums("waits"), found.sums("elsewhere"))


def test_a_database_that_is_away_stops_only_what_needs_it(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    running = start(database_url=sqlite_url(folder))
    found = History(running, sqlite_url(folder))
    assert running.alive()
    for path, request in (
        ("/loss/sparse", document("away")),
        (
            "/labels",
            {
                **dict.fromkeys(("project", "model", "model_version"), "x"),
                "batch_id": "x",
                "labels": [0],
            },
        ),
    ):
        refused = running.client.post(path, json=request)
        assert checked(refused, 503)["type"] == "/problems/history-unavailable"
        assert int(refused.headers["retry-after"]) >= 1
    ready = running.client.get("/health/ready")
    assert "history" in checked(ready, 503)["detail"]

    folder.mkdir()
    until(lambda: running.client.get("/health/ready").status_code == 200)
    assert found.post("/loss/sparse", document("away"))["track"]["status"] == "created"


def test_what_is_counted_and_timed(start: Start, tmp_path: Path) -> None:
    found = History(start(), sqlite_url(tmp_path))
    found.post("/loss/sparse", document("counted"))
    found.post("/loss/sparse", document("counted"))
    found.post("/loss/sparse", {**document("counted"), "k": 3}, 409)
    tracked = track("waits", pending=True)
    found.post("/loss/sparse", {"logits": [[0.0] * CLASSES], "track": tracked})
    names = {name: tracked[name] for name in ("project", "model", "model_version", "batch_id")}
    found.post("/labels", {**names, "labels": [0]})
    text = found.client.get("/metrics").text
    for line in (
        'xent_tracked_batches_total{status="created"} 2.0',
        'xent_tracked_batches_total{status="replayed"} 1.0',
        'xent_tracked_batches_total{status="conflict"} 1.0',
        'xent_labelled_batches_total{status="completed"} 1.0',
        "xent_history_queue_depth 0.0",
    ):
        assert line in text
    for request, laps in (
        (document("timed"), ["receive", "decode", "compute", "record", "encode"]),
        (BATCH, ["receive", "decode", "compute", "encode"]),
    ):
        answer = found.client.post("/loss/sparse", json=request)
        timing = answer.headers["server-timing"]
        assert [lap.split(";")[0] for lap in timing.split(", ")] == laps


def test_many_rows_with_names(history: History) -> None:
    rows = 4096
    random = np.random.default_rng(0)
    tracked = track("many", sample_ids=[f"sample-{row}" for row in range(rows)])
    body = safetensors(
        {
            "labels": random.integers(CLASSES, size=rows),
            "logits": random.normal(size=(rows, CLASSES)).astype(np.float32),
        },
        track=tracked,
    )
    history.send("/loss/sparse", body, SAFETENSORS)
    found = history.sums("many")
    assert found.replicated == rows
    means = found.replicates["loss_sums"][0] / found.replicates["weight_sums"][0]
    variance = found.loss_square_sum / rows - (found.loss_sum / rows) ** 2
    assert means.std(ddof=1) == pytest.approx((variance / rows) ** 0.5, rel=0.2)
