"""Bodies that come in pieces, over real sockets: whatever goes wrong, nothing is held for long."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.history.database import sqlite_url
from service.wire.arrival import STALL_S
from tests.service.batches import ARROW, arrow, batch_of, cut, pieces, safetensors
from tests.service.conftest import Start
from tests.service.harness import PATIENCE_S, SAFETENSORS, Running, alike, until

ROWS, CLASSES = 4000, 50
LOGITS = np.random.default_rng(2).normal(size=(ROWS, CLASSES)).astype(np.float32)
LABELS = np.arange(ROWS) % CLASSES
BODY = safetensors({"labels": LABELS, "logits": LOGITS}, outputs=["per_class"])
LATE = safetensors({"logits": LOGITS, "labels": LABELS}, outputs=["per_class"])
STREAM = arrow(list(cut(batch_of({"label": LABELS, "logits": LOGITS}), 300)), outputs=["per_class"])
KINDS = [
    pytest.param(BODY, SAFETENSORS, id="rows"),
    pytest.param(LATE, SAFETENSORS, id="spooled"),
    pytest.param(STREAM, ARROW, id="arrow"),
]
PIECES: dict[str, object] = {"stream_bytes": 0, "piece_bytes": 20_000, "spool_bytes": 1000}


@contextmanager
def sending(running: Running, kind: str, length: int | None) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_S) as connection:
        size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        head = f"POST /loss/sparse HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n{size}\r\n\r\n"
        connection.sendall(head.encode())
        yield connection


def send(connection: socket.socket, data: bytes) -> None:
    with suppress(ConnectionError):  # closed, after an answer that came early
        connection.sendall(data)


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        return response.status, json.loads(response.read())


def closed(connection: socket.socket) -> bool:
    """Tell whether the other side has closed a connection, with bytes left unread or without."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def whole(running: Running, body: bytes, kind: str) -> dict[str, Any]:
    found = running.client.post("/loss/sparse", content=body, headers={"content-type": kind})
    assert found.status_code == 200, found.text
    document: dict[str, Any] = found.json()
    return document


def spooled(folder: Path) -> list[str]:
    """Return the files in a folder that this process still holds, with a name or without one."""
    held = [str(path) for path in folder.iterdir()]
    for link in Path("/proc/self/fd").iterdir():
        try:
            held.append(str(link.readlink()))
        except OSError:  # closed meanwhile
            continue
    held += [
        line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines()
    ]
    history = sqlite_url(folder).removeprefix("sqlite:///")
    return [each for each in held if each.startswith(str(folder)) and not each.startswith(history)]


@contextmanager
def busy(running: Running) -> Iterator[None]:
    """Occupy the only worker."""
    release = threading.Event()
    engine = running.server.engine

    async def hang() -> None:
        engine.admit()
        engine.submit(lambda _: release.wait(PATIENCE_S), engine.release)

    asyncio.run_coroutine_threadsafe(hang(), running.loop).result(PATIENCE_S)
    until(lambda: engine.busy)
    try:
        yield
    finally:
        release.set()


def settled(running: Running, folder: Path) -> None:
    until(lambda: not running.server.engine.admitted and not spooled(folder))
    until(running.alive)


@pytest.mark.parametrize(("body", "kind"), KINDS)
def test_a_slow_sender_holds_no_worker(
    start: Start, tmp_path: Path, body: bytes, kind: str
) -> None:
    running = start(**PIECES, workers=1)
    expected = whole(running, body, kind)
    with sending(running, kind, len(body)) as connection:
        for at in range(0, len(body), len(body) // 4):
            connection.sendall(body[at : at + len(body) // 4])
            time.sleep(STALL_S / 5)
            until(lambda: running.server.engine.busy == 0)
            assert running.alive()  # on the only worker
        status, found = answer(connection)
    assert status == 200
    assert alike(found, expected)
    settled(running, tmp_path)


@pytest.mark.parametrize(("body", "kind"), KINDS)
def test_408_a_body_that_does_not_come(
    start: Start, tmp_path: Path, body: bytes, kind: str
) -> None:
    running = start(**PIECES, body_deadline_s=0.3)
    for sent in (b"", body[:10], body[:-1]):
        with sending(running, kind, len(body)) as connection:
            send(connection, sent)  # the deadline may pass meanwhile
            status, problem = answer(connection)
            assert (status, problem["type"]) == (408, "/problems/body-timeout")
            assert closed(connection)
    settled(running, tmp_path)


@pytest.mark.parametrize(("body", "kind"), KINDS)
def test_a_client_that_leaves_midway_gives_its_place_back(
    start: Start, tmp_path: Path, body: bytes, kind: str
) -> None:
    running = start(**PIECES, queue=0)
    for cut_at in (10, len(body) // 2, len(body) - 1):
        with sending(running, kind, len(body)) as connection:
            connection.sendall(body[:cut_at])
            until(lambda: running.server.engine.admitted == 1)
            time.sleep(0.02)
        settled(running, tmp_path)
    until(lambda: 'status="499"' in running.client.get("/metrics").text)


@pytest.mark.parametrize(("body", "kind"), KINDS)
def test_a_client_that_leaves_before_its_answer(
    start: Start, tmp_path: Path, body: bytes, kind: str
) -> None:
    running = start(**{**PIECES, "piece_bytes": 1 << 20}, workers=1)
    with busy(running):
        with sending(running, kind, len(body)) as connection:
            connection.sendall(body)
            until(lambda: running.server.engine.admitted == 2)
            time.sleep(0.05)
        until(lambda: running.server.engine.admitted == 1)  # before a worker is free
    settled(running, tmp_path)


@pytest.mark.parametrize(("body", "kind"), KINDS)
def test_a_sender_waits_for_the_workers_and_is_not_blamed(
    start: Start, tmp_path: Path, body: bytes, kind: str
) -> None:
    running = start(**PIECES, workers=1, body_deadline_s=0.4)
    sent = b"".join(chunked(each) for each in pieces(body, 10_000)) + b"0\r\n\r\n"
    found: dict[str, Any] = {}

    def taken() -> bool:  # unless the sender, this process, was itself kept from sending
        with sending(running, kind, None) as connection:
            with busy(running):
                sender = threading.Thread(target=send, args=(connection, sent))
                sender.start()
                time.sleep(0.6)
            status, document = answer(connection)
            sender.join()
        found.clear()
        found.update(document)
        return status == 200

    until(taken)
    assert alike(found, whole(start(**PIECES), body, kind))
    settled(running, tmp_path)


@pytest.mark.parametrize(("body", "kind"), KINDS)
def test_503_when_no_worker_comes_in_time(
    start: Start, tmp_path: Path, body: bytes, kind: str
) -> None:
    running = start(**PIECES, workers=1, evaluation_deadline_s=0.1)
    with busy(running), sending(running, kind, len(body)) as connection:
        connection.sendall(body[:-1])
        status, problem = answer(connection)
        assert (status, problem["type"]) == (503, "/problems/unavailable")
        assert "0.1 s" in problem["detail"]
    settled(running, tmp_path)


@pytest.mark.parametrize(("body", "kind"), KINDS)
def test_429_counts_streams(start: Start, tmp_path: Path, body: bytes, kind: str) -> None:
    running = start(**PIECES, queue=0)
    with sending(running, kind, len(body)) as connection:
        connection.sendall(body[:-1])
        until(lambda: running.server.engine.admitted == 1)
        refused = running.client.post("/loss/sparse", content=body, headers={"content-type": kind})
        assert refused.status_code == 429
        connection.sendall(body[-1:])
        assert answer(connection)[0] == 200
    settled(running, tmp_path)


@pytest.mark.parametrize(("body", "kind"), KINDS)
def test_a_drain_lets_streams_end(start: Start, tmp_path: Path, body: bytes, kind: str) -> None:
    running = start(**PIECES)
    with sending(running, kind, len(body)) as connection:
        connection.sendall(body[: len(body) // 2])
        until(lambda: running.server.engine.admitted == 1)
        running.loop.call_soon_threadsafe(running.server.engine.drain)
        until(lambda: running.client.get("/health/ready").status_code == 503)
        connection.sendall(body[len(body) // 2 :])
        assert answer(connection)[0] == 200
    until(lambda: not running.server.engine.admitted and not spooled(tmp_path))


@pytest.mark.parametrize(("body", "kind"), KINDS)
def test_a_stop_gives_streams_up(start: Start, tmp_path: Path, body: bytes, kind: str) -> None:
    running = start(**PIECES)
    with sending(running, kind, len(body)) as connection:
        connection.sendall(body[: len(body) // 2])
        until(lambda: running.server.engine.admitted == 1)
        time.sleep(0.05)
        running.loop.call_soon_threadsafe(running.server.engine.stop)
        connection.sendall(body[len(body) // 2 :])
        status, problem = answer(connection)
        assert (status, problem["detail"]) == (503, "the workers have stopped")
    until(lambda: not running.server.engine.admitted and not spooled(tmp_path))


def test_a_stop_while_a_step_waits(start: Start, tmp_path: Path) -> None:
    running = start(**PIECES, workers=1)
    with busy(running), sending(running, SAFETENSORS, len(LATE)) as connection:
        connection.sendall(LATE)
        until(lambda: running.server.engine.waiting == 1)
        time.sleep(0.05)
        running.loop.call_soon_threadsafe(running.server.engine.stop)
        assert answer(connection)[0] == 503
    until(lambda: not running.server.engine.admitted and not spooled(tmp_path))


def test_a_server_that_ends_leaves_nothing_behind(start: Start, tmp_path: Path) -> None:
    running = start(**PIECES)
    with sending(running, SAFETENSORS, len(LATE)) as connection:
        connection.sendall(LATE[:-100])
        until(lambda: spooled(tmp_path))
        # The file never had a name.
        assert all(each.name.startswith("history") for each in tmp_path.iterdir())
        running.stop()
    until(lambda: not spooled(tmp_path))


def test_422_comes_before_the_rest_of_the_rows(start: Start, tmp_path: Path) -> None:
    running = start(**PIECES)
    labels = np.where(np.arange(ROWS) == 7, CLASSES, LABELS)
    early = safetensors({"labels": labels, "logits": LOGITS})
    stream = arrow(list(cut(batch_of({"label": labels, "logits": LOGITS}), 300)))
    for body, kind, sent in ((early, SAFETENSORS, 700_000), (stream, ARROW, 700_000)):
        with sending(running, kind, len(body)) as connection:
            connection.sendall(body[:sent])
            status, problem = answer(connection)
            assert status == 422
            assert "label 50 at position (7,)" in problem["detail"]
            connection.sendall(body[sent:])  # taken and thrown away: the connection goes on
            connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert answer(connection) == (200, {"live": True})
    settled(running, tmp_path)


def test_413_by_what_is_declared_and_by_what_comes(start: Start, tmp_path: Path) -> None:
    running = start(**PIECES, body_bytes=len(BODY) - 1)
    with sending(running, SAFETENSORS, len(BODY)) as connection:
        assert answer(connection)[0] == 413
    for body, kind in ((BODY, SAFETENSORS), (STREAM + STREAM, ARROW)):
        with sending(running, kind, None) as connection:
            with suppress(ConnectionError):
                for each in pieces(body, 50_000):
                    connection.sendall(chunked(each))
            assert answer(connection)[0] in (400, 413)
    settled(running, tmp_path)


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ({"rows": ROWS - 1}, "rows"),
        ({"classes": CLASSES - 1}, "classes"),
        ({"elements": ROWS * CLASSES - 1}, "elements"),
    ],
)
@pytest.mark.parametrize(("body", "kind"), KINDS)
def test_413_batches(
    start: Start, tmp_path: Path, limit: dict[str, int], says: str, body: bytes, kind: str
) -> None:
    running = start(**PIECES, **limit)
    found = running.client.post(
        "/loss/sparse", content=pieces(body, 9999), headers={"content-type": kind}
    )
    assert found.status_code == 413
    assert says in found.json()["detail"]
    settled(running, tmp_path)


def test_413_record_batches(start: Start, tmp_path: Path) -> None:
    running = start(**PIECES, message_bytes=50_000)
    found = running.client.post("/loss/sparse", content=STREAM, headers={"content-type": ARROW})
    assert found.status_code == 413
    assert "fewer rows" in found.json()["detail"]
    settled(running, tmp_path)


@pytest.mark.parametrize("change", [lambda body: body[:-1], lambda body: body + b"x"])
@pytest.mark.parametrize(("body", "kind"), KINDS)
def test_400_truncated_and_overlong(
    start: Start, tmp_path: Path, body: bytes, kind: str, change: Callable[[bytes], bytes]
) -> None:
    running = start(**PIECES)
    for content in (change(body), pieces(change(body), 9999)):
        found = running.client.post("/loss/sparse", content=content, headers={"content-type": kind})
        assert (found.status_code, found.json()["type"]) == (400, "/problems/malformed")
    settled(running, tmp_path)


@pytest.mark.parametrize("size", [1, 7, 8, 20])
def test_400_no_more_than_part_of_a_header(start: Start, tmp_path: Path, size: int) -> None:
    running = start(**PIECES)
    found = running.client.post(
        "/loss/sparse", content=iter([BODY[:size]]), headers={"content-type": SAFETENSORS}
    )
    assert (found.status_code, found.json()["type"]) == (400, "/problems/malformed")
    settled(running, tmp_path)


def test_503_when_nothing_can_be_kept(start: Start, tmp_path: Path) -> None:
    running = start(**PIECES, data_dir=tmp_path / "gone")
    found = running.client.post("/loss/sparse", content=LATE, headers={"content-type": SAFETENSORS})
    assert found.status_code == 503
    assert "send the logits last" in found.json()["detail"]
    settled(running, tmp_path)


def test_settings_that_need_the_whole_batch(start: Start) -> None:
    running = start(**PIECES)
    batch = batch_of({"label": LABELS, "logits": LOGITS})
    balanced = {"class_weights": "balanced"}
    headers = {"content-type": ARROW}
    body = arrow([batch], settings=balanced)
    problem = running.client.post("/loss/weighted", content=body, headers=headers).json()
    assert problem["status"] == 422
    assert "give class_counts, or send the batch as safetensors or JSON" in problem["detail"]
    assert problem["errors"][0]["pointer"] == "/settings/class_counts"
    variants = [{"variant": "sparse"}, {"variant": "weighted", "settings": balanced}]
    body = arrow([batch], variants=variants)
    problem = running.client.post("/compare", content=body, headers=headers).json()
    assert problem["errors"][0]["pointer"] == "/variants/1/settings/class_counts"


def test_kinds_of_labels_that_change_in_a_stream(start: Start) -> None:
    running = start(**PIECES)
    one_hot = np.eye(CLASSES, dtype=np.int8)[LABELS]
    many = one_hot.copy()
    many[3500:, :2] = 1
    body = arrow(list(cut(batch_of({"label": many, "logits": LOGITS}), 1000)))
    found = running.client.post("/loss/focal", content=body, headers={"content-type": ARROW})
    assert found.status_code == 422
    assert "state their kind" in found.json()["detail"]
