"""Every row of the status table, over real sockets, with the server alive afterwards."""

import asyncio
import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import httpx2
import numpy as np
import pytest
import torch
import zstandard
from safetensors.torch import save

from service.wire.payload import TORCH_DTYPES
from tests.service.conftest import Start
from tests.service.harness import BATCH, PATIENCE_S, SAFETENSORS, Running, until

JSON = {"content-type": "application/json"}
BODY = json.dumps(BATCH).encode()


@pytest.fixture(autouse=True)
def alive_afterwards(shared: Running) -> Iterator[None]:
    yield
    assert shared.alive()


def raw(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)


def head(length: int | str | None, path: str = "/loss/sparse", more: str = "") -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}{size}\r\n\r\n"
    ).encode()


def answer(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """Read one response: its status and JSON body."""
    with connection.makefile("rb") as file:
        status = int(file.readline().split()[1])
        length = 0
        while (line := file.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return status, json.loads(file.read(length))


def check(response: httpx2.Response, status: int, slug: str) -> None:
    problem = response.json()
    assert (response.status_code, problem["type"]) == (status, f"/problems/{slug}"), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert "Traceback" not in response.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 250_000,
        b'{"logits": [[1, 2], [3]], "labels": [0, 1]}',
        b'{"logits": [[NaN, 2]], "labels": [0]}',
        BODY + b"x",
    ],
)
def test_400_bytes_that_are_not_json(client: httpx2.Client, body: bytes) -> None:
    check(client.post("/loss/sparse", content=body, headers=JSON), 400, "malformed")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_400_bad_compression(client: httpx2.Client, encoding: str) -> None:
    compress = gzip.compress if encoding == "gzip" else zstandard.ZstdCompressor().compress
    headers = {**JSON, "content-encoding": encoding}
    for body in (BODY, compress(BODY)[:-1], compress(BODY) + b"x"):
        check(client.post("/loss/sparse", content=body, headers=headers), 400, "malformed")


@pytest.mark.parametrize("change", [-1, 1, 8, -(2**62)])
def test_400_header_lengths(client: httpx2.Client, change: int) -> None:
    body = save({"logits": torch.zeros(2, 2), "labels": torch.tensor([0, 1])})
    (length,) = struct.unpack("<Q", body[:8])
    wrong = struct.pack("<Q", (length + change) % 2**64) + body[8:]
    response = client.post("/loss/sparse", content=wrong, headers={"content-type": SAFETENSORS})
    check(response, 400, "malformed")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/loss/focl", "POST", 404),
        ("/loss/", "POST", 404),
        ("/loss/a/b", "POST", 404),
        ("/variants/focl", "GET", 404),
        ("/nowhere", "GET", 404),
        ("/loss/sparse", "GET", 405),
        ("/compare", "PUT", 405),
    ],
)
def test_404_and_405(client: httpx2.Client, path: str, method: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert response.headers["allow"] in ("POST", "GET, POST")


def test_404_says_what_was_meant(client: httpx2.Client) -> None:
    problem = client.post("/loss/focl", json=BATCH).json()
    assert "did you mean 'focal'?" in problem["detail"]
    assert len(client.post("/loss/" + "x" * 5000).content) < 2000


def test_408_a_body_that_does_not_come(start: Start) -> None:
    server = start(body_deadline_s=0.2)
    for sent in (b"", BODY[:10]):
        with closing(raw(server)) as connection:
            connection.sendall(head(len(BODY)) + sent)
            status, problem = answer(connection)
            assert (status, problem["type"]) == (408, "/problems/body-timeout")
            assert connection.recv(1) == b""
    with closing(raw(server)) as connection:  # trickling gains nothing
        connection.sendall(head(100_000))
        connection.settimeout(0.02)

        def trickle() -> bytes:
            connection.sendall(b" ")
            with suppress(TimeoutError):
                return connection.recv(20)
            return b""

        assert next(filter(None, iter(trickle, None))).startswith(b"HTTP/1.1 408")
    until(server.alive)


def test_a_connection_that_sends_no_request_is_closed(start: Start) -> None:
    server = start(header_deadline_s=0.1)
    for sent in (b"", b"POST / HT"):
        with closing(raw(server)) as connection:
            connection.sendall(sent)
            assert connection.recv(1) == b""
    until(server.alive)


def test_413_by_the_declared_length(shared: Running) -> None:
    for length in (4_000_001, 10**18):
        with closing(raw(shared)) as connection:
            connection.sendall(head(length))
            assert answer(connection)[0] == 413


def test_413_while_streaming(shared: Running) -> None:
    with closing(raw(shared)) as connection:
        connection.sendall(head(None))
        chunk = b"%x\r\n" % 100_000 + b" " * 100_000 + b"\r\n"
        with suppress(ConnectionError):  # it may be closed before the last is sent
            for _ in range(41):
                connection.sendall(chunk)
        status, problem = answer(connection)
        assert (status, problem["type"]) == (413, "/problems/too-large")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_413_bombs(client: httpx2.Client, encoding: str) -> None:
    compress = gzip.compress if encoding == "gzip" else zstandard.ZstdCompressor().compress
    body = compress(b" " * 50_000_000)
    response = client.post(
        "/loss/sparse", content=body, headers={**JSON, "content-encoding": encoding}
    )
    check(response, 413, "too-large")


@pytest.mark.parametrize("shape", [[2**40, 2**20], [2**32, 2**32], [1, 2001], [100_001, 1]])
def test_413_shapes(client: httpx2.Client, shape: list[int]) -> None:
    document = {**BATCH, "logits": {"dtype": "float32", "shape": shape, "data": ""}}
    check(client.post("/loss/sparse", json=document), 413, "too-large")


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=latin-1"},
        {},
        {**JSON, "content-encoding": "br"},
    ],
)
def test_415_with_the_list(client: httpx2.Client, headers: dict[str, str]) -> None:
    response = client.post("/loss/sparse", content=BODY, headers=headers)
    check(response, 415, "media-type")
    assert "supported:" in response.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"labels": [0, 9]}, "label-invalid"),
        ({"labels": [0]}, "shapes-mismatch"),
        ({"labels": [[1, 1, 0, 0], [1, 0, 0, 0]]}, "label-kind-refused"),
        ({"sample_weights": [-1, 1]}, "weight-invalid"),
        ({"input": "probabilities"}, "probability-invalid"),
        ({"logits": [[None] * 4] * 2}, "document-invalid"),
        ({"settings": {"class_weights": [1]}}, "setting-invalid"),
    ],
)
def test_422_says_what_is_wrong(
    client: httpx2.Client, changes: dict[str, object], slug: str
) -> None:
    check(client.post("/loss/sparse", json={**BATCH, **changes}), 422, slug)


def test_422_nonfinite_rows_where_they_are_rejected(client: httpx2.Client) -> None:
    logits = np.array([[0.0, np.nan]], np.float32)
    body = save(
        {"logits": torch.from_numpy(logits), "labels": torch.tensor([0])},
        {"request": '{"nonfinite": "reject"}'},
    )
    response = client.post("/loss/sparse", content=body, headers={"content-type": SAFETENSORS})
    check(response, 422, "nonfinite")


def test_nothing_that_was_sent_is_echoed(client: httpx2.Client) -> None:
    marker = "hunter2-hunter2"
    for changes in ({"reduction": marker}, {"settings": {"class_weights": marker}}, {"k": marker}):
        response = client.post("/loss/sparse", json={**BATCH, **changes})
        assert response.status_code == 422
        assert marker not in response.text


def test_429_when_every_place_is_taken(start: Start) -> None:
    server = start(queue=1)
    waiting = [raw(server) for _ in range(2)]
    for connection in waiting:
        connection.sendall(head(len(BODY)))
    until(lambda: server.server.engine.admitted == 2)
    refused = server.client.post("/loss/sparse", json=BATCH)
    check(refused, 429, "queue-full")
    assert int(refused.headers["retry-after"]) >= 1
    for path in ("/health/live", "/health/ready", "/metrics", "/variants"):
        assert server.client.get(path).status_code == 200
    assert "xent_queue_depth 2.0" in server.client.get("/metrics").text
    for connection in waiting:
        connection.sendall(BODY)
        assert answer(connection)[0] == 200
        connection.close()
    assert server.alive()
    assert 'xent_rejected_total{reason="queue_full"} 1.0' in server.client.get("/metrics").text


def test_503_when_the_evaluation_takes_too_long(start: Start) -> None:
    server = start(evaluation_deadline_s=1e-4)
    long = {"logits": [[0.0] * 100] * 3000, "labels": [0] * 3000}  # many times the deadline
    answers: list[httpx2.Response] = []

    def too_late() -> bool:  # or in time after all, where the loop itself had to wait
        answers.append(server.client.post("/loss/sparse", json=long))
        return answers[-1].status_code != 200

    until(too_late)
    check(answers[-1], 503, "unavailable")
    assert answers[-1].headers["retry-after"] == "1"
    until(lambda: server.server.engine.admitted == 0)
    assert server.client.get("/health/ready").status_code == 200


def test_503_when_a_worker_does_not_come_back(start: Start) -> None:
    server = start(evaluation_deadline_s=0.05, worker_grace_s=0)
    release = threading.Event()
    engine = server.server.engine
    loop = server.loop

    async def hang() -> None:
        engine.admit()
        engine.submit(lambda _: release.wait(PATIENCE_S), engine.release)

    asyncio.run_coroutine_threadsafe(hang(), loop).result(PATIENCE_S)
    until(lambda: server.client.get("/health/ready").status_code == 503)
    assert 'xent_workers{state="dead"} 1.0' in server.client.get("/metrics").text
    release.set()
    until(lambda: server.client.get("/health/ready").status_code == 200)


def test_a_client_that_leaves_midway_gives_its_place_back(start: Start) -> None:
    server = start(queue=0)
    for sent in (head(len(BODY)), head(len(BODY)) + BODY[:10], head(None) + b"5\r\n"):
        with closing(raw(server)) as connection:
            connection.sendall(sent)
            until(lambda: server.server.engine.admitted == 1)
        until(lambda: server.server.engine.admitted == 0)
    assert server.alive()
    until(lambda: 'status="499"' in server.client.get("/metrics").text)


def test_a_hundred_thousand_chunks_of_one_byte(shared: Running) -> None:
    def work_s(size: int) -> float:
        """Return what this process, the server's too, works for a body in chunks of one byte."""
        body = BODY + b" " * (size - len(BODY))
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        with closing(raw(shared)) as connection:
            begun = time.process_time()
            connection.sendall(head(None) + chunks)
            assert answer(connection)[0] == 200
            return time.process_time() - begun

    few = min(work_s(10_000) for _ in range(3))
    assert work_s(100_000) < 40 * few  # the square of ten times as many would be a hundred times


def test_every_dtype_of_labels_is_read(client: httpx2.Client) -> None:
    for name in TORCH_DTYPES:
        labels = torch.tensor([0, 1]).to(TORCH_DTYPES[name])
        body = save({"logits": torch.zeros(2, 3), "labels": labels})
        response = client.post("/loss/sparse", content=body, headers={"content-type": SAFETENSORS})
        assert response.status_code in (200, 422), (name, response.text)


def test_expect_100_continue_is_answered_before_the_body_is_sent(shared: Running) -> None:
    with closing(raw(shared)) as connection:
        connection.sendall(head(len(BODY), more="Expect: 100-continue\r\n"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(BODY)
        assert answer(connection)[0] == 200
    with closing(raw(shared)) as connection:
        connection.sendall(head(10**10, more="Expect: 100-continue\r\n"))
        assert answer(connection)[0] == 413
