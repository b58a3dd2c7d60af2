"""What is measured runs in processes of its own, on loopback, and is stopped at the end."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
START_S: Final = 60.0
STOP_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A process that listens on a port."""

    process_id: int
    port: int


@contextmanager
def xent(**settings: object) -> Iterator[Server]:
    """Run the service with its defaults, but for the port and these settings."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="xent-bench-") as folder:
        given = {"PORT": port, "DATA_DIR": folder, "LOG_LEVEL": "error", **settings}
        environment = {f"XENT_{key.upper()}": str(value) for key, value in given.items()}
        with _running(["service"], port, environment) as server:
            yield server


@contextmanager
def floor(count: int, buffer_bytes: int | None = None) -> Iterator[Server]:
    """Run a plain socket that takes ``count`` bytes at a time, through a buffer of as many."""
    port = _free_port()
    sizes = [str(count), str(buffer_bytes or count)]
    with _running(["benchmarks.floor", str(port), *sizes], port, {}) as server:
        yield server


@contextmanager
def route() -> Iterator[Server]:
    """Run the FastAPI route."""
    port = _free_port()
    with _running(["benchmarks.route", str(port)], port, {}) as server:
        yield server


@contextmanager
def _running(module: list[str], port: int, environment: dict[str, str]) -> Iterator[Server]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("XENT_")}
    process = subprocess.Popen(  # noqa: S603  (modules of this repository)
        [sys.executable, "-m", *module], cwd=ROOT, env={**kept, **environment}
    )
    try:
        _wait(process, port)
        yield Server(process.pid, port)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    last_s = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > last_s:
                raise RuntimeError("a server did not start; see what it wrote above") from None
            time.sleep(0.05)
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
