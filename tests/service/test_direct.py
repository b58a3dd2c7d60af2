"""A connection that is taken over for a body, and given back."""

import asyncio
import json
import socket
import threading
import time
from unittest import mock

import numpy as np
import pytest

from service.direct import Direct
from tests.service.batches import safetensors
from tests.service.conftest import Start
from tests.service.harness import PATIENCE_S, SAFETENSORS, Running, until
from tests.service.test_stream_statuses import answer

ROWS, CLASSES = 3000, 100
LOGITS = np.random.default_rng(4).normal(size=(ROWS, CLASSES)).astype(np.float32)
LABELS = np.arange(ROWS) % CLASSES
PIECES: dict[str, object] = {"stream_bytes": 0, "piece_bytes": 50_000}
BODY = safetensors({"labels": LABELS, "logits": LOGITS}, outputs=["gradient"])


def head(length: int, accept: str = "*/*") -> bytes:
    return (
        f"POST /loss/sparse HTTP/1.1\r\nhost: x\r\ncontent-type: {SAFETENSORS}\r\n"
        f"accept: {accept}\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


def connected(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_S)


def test_requests_follow_each_other_on_one_connection(start: Start) -> None:
    running = start(**PIECES)
    small = json.dumps({"logits": [[1.0, 2.0]], "labels": [0]}).encode()
    other = (
        b"POST /loss/sparse HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(small)
    )
    with connected(running) as connection:
        losses = set()
        for _ in range(3):
            connection.sendall(head(len(BODY)) + BODY)
            status, found = answer(connection)
            assert status == 200
            losses.add(found["loss"])
            connection.sendall(other + small)
            assert answer(connection)[0] == 200
        assert len(losses) == 1


def test_a_request_behind_a_body_is_answered_after_it(start: Start) -> None:
    running = start(**PIECES)
    with connected(running) as connection:
        behind = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"
        sender = threading.Thread(
            target=lambda: connection.sendall(head(len(BODY)) + BODY + behind)
        )
        sender.start()
        with connection.makefile("rb") as file:
            lengths = []
            for _ in range(2):
                assert file.readline().split()[1] == b"200"
                while (line := file.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length"):
                        lengths.append(int(line.split(b":")[1]))
                file.read(lengths[-1])
        sender.join()
        assert lengths[1] == len(b'{"live":true}')


def test_an_answer_that_is_read_slowly(start: Start) -> None:
    running = start(**PIECES)
    wide = np.zeros((40_000, 100), np.float32)
    body = safetensors({"labels": np.zeros(40_000, np.int8), "logits": wide}, outputs=["gradient"])
    with connected(running) as connection:
        connection.sendall(head(len(body), SAFETENSORS) + body)
        time.sleep(0.3)
        received = 0
        while received < wide.nbytes:
            received += len(connection.recv(1 << 20))
    until(lambda: not running.server.engine.admitted)
    assert running.alive()


@pytest.mark.anyio
async def test_what_a_connection_is_told_meanwhile_goes_on_to_its_protocol() -> None:
    http = mock.Mock()
    http.cycle.body = bytearray(b"cd")
    http.transport.is_closing.return_value = False
    direct = Direct(http, 10)
    assert direct.begin(2) == b"cd"
    http.transport.set_protocol.assert_called_once_with(direct)
    direct.pause_writing()
    direct.resume_writing()
    http.pause_writing.assert_called_once_with()
    http.resume_writing.assert_called_once_with()
    waiting = asyncio.ensure_future(direct.receive_into(memoryview(bytearray(6))))
    await asyncio.sleep(0)
    direct.get_buffer(-1)[:2] = b"ef"
    direct.buffer_updated(2)
    direct.connection_lost(None)
    http.connection_lost.assert_called_once_with(None)
    assert await waiting == 2
    http.transport.is_closing.return_value = True
    assert await direct.receive_into(memoryview(bytearray(4))) == 0


@pytest.mark.anyio
async def test_a_wait_that_is_given_up_stops_reading_unless_the_rest_is_thrown_away() -> None:
    for discard in (False, True):
        http = mock.Mock()
        http.cycle.body = bytearray()
        http.transport.is_closing.return_value = False
        direct = Direct(http, 10)
        http.transport.get_protocol.return_value = direct
        direct.begin(0)
        waiting = asyncio.ensure_future(direct.receive_into(memoryview(bytearray(10))))
        await asyncio.sleep(0)
        waiting.cancel()
        if discard:
            direct.end()
            assert len(direct.get_buffer(-1)) == 10
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert http.transport.pause_reading.call_count == 2 - discard


def test_a_body_that_came_meanwhile_needs_no_other_way() -> None:
    http = mock.Mock()
    http.transport.is_closing.return_value = False
    http.cycle.body = bytearray(b"cd")
    assert Direct(http, 4).begin(2) == b"cd"
    http.transport.set_protocol.assert_not_called()
    http.transport.pause_reading.assert_not_called()
