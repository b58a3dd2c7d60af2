"""The process: how it starts, drains, stops and fails."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.service.harness import BATCH, PATIENCE_S, until

BODY = json.dumps(BATCH).encode()
HEAD = (
    b"POST /loss/sparse HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
)


class Process:
    """``python -m service`` with its log lines."""

    def __init__(self, data_dir: Path, **settings: object) -> None:
        given = {"PORT": 0, "THREADS": 1, "WORKERS": 1, "KERNELS": "eager", **settings}
        given["DATA_DIR"] = data_dir
        environment = {f"XENT_{name}": str(value) for name, value in given.items()}
        self._log = (data_dir.parent / "log").open("wb+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service"], env={**os.environ, **environment}, stderr=self._log
        )

    def wait(self) -> None:
        """Wait until it listens, or has ended."""
        until(
            lambda: self.process.poll() is not None or "Uvicorn running" in self.log(),
            5 * PATIENCE_S,
        )
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.log())
        self.port = int(found[1]) if found else 0

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def get(self, path: str) -> int:
        return httpx2.get(f"http://127.0.0.1:{self.port}{path}").status_code

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._log.close()


@contextmanager
def process(data_dir: Path, **settings: object) -> Iterator[Process]:
    started = Process(data_dir, **settings)
    try:
        started.wait()
        yield started
    finally:
        started.end()


@pytest.mark.parametrize(
    "sig", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_drains_finishes_and_exits_with_0(tmp_path: Path, sig: signal.Signals) -> None:
    settings = {"DRAIN_S": 0.3, "SHUTDOWN_DEADLINE_S": 10 * PATIENCE_S}
    with process(tmp_path / "data", **settings) as server, closing(server.connect()) as connection:
        assert server.get("/health/ready") == 200
        connection.sendall(HEAD + BODY[:10])
        until(
            lambda: (
                "xent_queue_depth 1.0" in httpx2.get(f"http://127.0.0.1:{server.port}/metrics").text
            )
        )
        server.process.send_signal(sig)
        until(lambda: server.get("/health/ready") == 503)
        assert server.get("/health/live") == 200
        refused = httpx2.post(f"http://127.0.0.1:{server.port}/loss/sparse", json=BATCH)
        assert refused.status_code == 503
        assert refused.json()["type"] == "/problems/unavailable"
        time.sleep(0.4)  # past the drain: only what is in flight keeps it up
        assert server.process.poll() is None
        connection.sendall(BODY[10:])
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert server.process.wait(PATIENCE_S) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(server.process.pid, 0)


@pytest.mark.slow
def test_the_shutdown_has_a_deadline(tmp_path: Path) -> None:
    settings = {"SHUTDOWN_DEADLINE_S": 0.3}
    with process(tmp_path / "data", **settings) as server, closing(server.connect()) as connection:
        connection.sendall(HEAD + BODY[:10])
        until(
            lambda: (
                "xent_queue_depth 1.0" in httpx2.get(f"http://127.0.0.1:{server.port}/metrics").text
            )
        )
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0


@pytest.mark.slow
def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with process(tmp_path / "data", DRAIN_S=25) as server:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.get("/health/ready") == 503)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 1


@pytest.mark.slow
def test_a_port_that_is_taken_is_a_failed_start(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with process(tmp_path / "data", PORT=port) as server:
            assert server.process.wait(PATIENCE_S) != 0
            assert "address already in use" in server.log()


def test_logs_are_one_json_object_per_line(tmp_path: Path) -> None:
    with process(tmp_path / "data") as server:
        url = f"http://127.0.0.1:{server.port}/loss/sparse"
        httpx2.post(url, json=BATCH, headers={"x-request-id": "log-me"})
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
        lines = [json.loads(line) for line in server.log().splitlines()]
    (line,) = [line for line in lines if line["event"] == "request"]
    assert line["request_id"] == "log-me"
    assert (line["status"], line["route"]) == (200, "/loss/sparse")
    assert line["compute_ms"] > 0
    assert line["request_bytes"] == len(BATCH and httpx2.Request("POST", url, json=BATCH).content)
