"""Bodies that are evaluated while they still arrive: the same answers, and no worker held up."""

import http.client
import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from service.wire.arrival import STALL_S
from tests.service.conftest import Start
from tests.service.harness import PATIENCE_S, SAFETENSORS, Running, alike, until

ROWS, CLASSES = 2100, 500  # more than one block
LOGITS = np.random.default_rng(0).normal(size=(ROWS, CLASSES)).astype(np.float32)
LABELS = np.arange(ROWS) % CLASSES


def body_of(logits: NDArray[np.floating], labels: NDArray[np.int64], **request: object) -> bytes:
    return save({"logits": logits, "labels": labels}, metadata={"request": json.dumps(request)})


@contextmanager
def sending(running: Running, length: int, path: str = "/loss/sparse") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_S) as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {SAFETENSORS}\r\n"
        connection.sendall(f"{head}content-length: {length}\r\n\r\n".encode())
        yield connection


def answer(connection: socket.socket) -> tuple[int, dict[str, object]]:
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        return response.status, json.loads(response.read())


def whole(running: Running, body: bytes, path: str = "/loss/sparse") -> dict[str, object]:
    found = running.client.post(path, content=body, headers={"content-type": SAFETENSORS})
    assert found.status_code == 200, found.text
    loaded: dict[str, object] = found.json()
    return loaded


def in_pieces(
    running: Running, body: bytes, *, pause_s: float = 0.0, path: str = "/loss/sparse"
) -> dict[str, object]:
    with sending(running, len(body), path) as connection:
        cut = 3 * len(body) // 4
        connection.sendall(body[:cut])
        time.sleep(pause_s)
        connection.sendall(body[cut:])
        status, found = answer(connection)
        assert status == 200, found
        return found


def test_a_body_in_pieces_gives_the_answer_of_the_whole(start: Start) -> None:
    running = start()
    body = body_of(LOGITS, LABELS, outputs=["per_class", "gradient"])
    assert in_pieces(running, body, pause_s=STALL_S / 5) == whole(running, body)


def test_labels_are_checked_before_the_last_logits_are_there(start: Start) -> None:
    running = start()
    body = body_of(LOGITS, np.where(np.arange(ROWS) == 7, CLASSES, LABELS))
    with sending(running, len(body)) as connection:
        connection.sendall(body[:-1000])
        status, problem = answer(connection)
        assert status == 422
        assert "label 500 at position (7,)" in str(problem["detail"])
    assert running.alive()


def test_a_worker_does_not_wait_for_a_sender_that_stalls(start: Start) -> None:
    running = start(workers=1, body_deadline_s=10 * PATIENCE_S)
    body = body_of(LOGITS, LABELS, outputs=["per_class"])
    with sending(running, len(body)) as connection:
        connection.sendall(body[: 3 * len(body) // 4])
        until(lambda: running.server.engine.admitted)
        assert running.alive()  # the only worker is free, long before the rest is there
        connection.sendall(body[3 * len(body) // 4 :])
        status, found = answer(connection)
    assert status == 200
    assert found == whole(running, body)


def test_a_sender_that_never_ends_is_timed_out(start: Start) -> None:
    running = start(workers=1, body_deadline_s=3 * STALL_S)
    body = body_of(LOGITS, LABELS)
    with sending(running, len(body)) as connection:
        connection.sendall(body[:-1])
        status, problem = answer(connection)
    assert status == 408, problem
    until(running.alive)


def test_a_sender_that_leaves_midway_frees_its_place(start: Start) -> None:
    running = start(workers=1)
    body = body_of(LOGITS, LABELS)
    with sending(running, len(body)) as connection:
        connection.sendall(body[: 3 * len(body) // 4])
        until(lambda: running.server.engine.admitted)
    until(lambda: not running.server.engine.admitted)
    assert running.alive()


@pytest.mark.parametrize("class_axis", [0, -2])
def test_classes_first_are_read_when_all_is_there(start: Start, class_axis: int) -> None:
    running = start()
    found = in_pieces(running, body_of(LOGITS.T.copy(), LABELS, class_axis=class_axis))
    expected = whole(running, body_of(LOGITS, LABELS))
    assert found["reduction"] == expected["reduction"]


def test_rows_behind_several_axes_are_counted_along_the_first(start: Start) -> None:
    running = start()
    images = np.ascontiguousarray(LOGITS.reshape(210, 10, CLASSES).transpose(0, 2, 1))
    body = body_of(images, LABELS.reshape(210, 10), outputs=["gradient"])
    assert in_pieces(running, body) == whole(running, body)


def test_a_body_of_no_declared_length_is_read_when_all_is_there(start: Start) -> None:
    running = start()
    body = body_of(LOGITS, LABELS, outputs=["per_class"])
    pieces = [body[at : at + 100_000] for at in range(0, len(body), 100_000)]
    found = running.client.post(
        "/loss/sparse", content=iter(pieces), headers={"content-type": SAFETENSORS}
    )
    assert alike(found.json(), whole(running, body))


def raw(tensors: dict[str, tuple[str, NDArray[np.generic]]], *, shift: int = 0) -> bytes:
    """Write tensors in the order given; ``shift`` leaves them misaligned."""
    header: dict[str, object] = {}
    offset = 0
    for name, (dtype, array) in tensors.items():
        end = offset + array.nbytes
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8 + shift)
    data = b"".join(array.tobytes() for _, array in tensors.values())
    return struct.pack("<Q", len(text)) + text + data


def test_labels_behind_the_logits_and_misaligned_logits_wait_for_the_end(start: Start) -> None:
    running = start()
    expected = whole(running, body_of(LOGITS, LABELS))
    late = raw({"logits": ("F32", LOGITS), "labels": ("I64", LABELS)})
    askew = raw({"labels": ("I64", LABELS), "logits": ("F32", LOGITS)}, shift=3)
    for body in (late, askew):
        assert in_pieces(running, body) == expected
