"""The service that is asked: the one that runs, or one that is started for the occasion."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2

USUAL_URL: Final = "http://127.0.0.1:8000"
START_S: Final = 60.0
STOP_S: Final = 30.0


class NoService(Exception):
    """No service answers, or it does not start."""


@contextmanager
def service(url: str | None) -> Iterator[tuple[str, str]]:
    """Yield the URL of a service and how it was found; one that was started is stopped again.

    Args:
        url: where it must be; ``None`` asks the usual place, and starts one where none answers.

    Raises:
        NoService: none answers there, or none starts.
    """
    if url is not None:
        if not answers_as_xent(url):
            raise NoService(f"nothing at {url} answers as Xent: start one there, or unset XENT_URL")
        yield url, "named by XENT_URL"
    elif answers_as_xent(USUAL_URL):
        yield USUAL_URL, "already running"
    else:
        with started() as own:
            yield own, "started for this"


def answers_as_xent(url: str) -> bool:
    """Tell whether a service that is ready and calls itself Xent answers."""
    try:
        with httpx2.Client(base_url=url, timeout=5, trust_env=False) as http:
            ready = http.get("/health/ready").json().get("ready") is True
            return bool(ready and http.get("/openapi.json").json()["info"]["title"] == "Xent")
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError):
        return False


@contextmanager
def started(**more: str) -> Iterator[str]:
    """Start a service on a free loopback port, yield its URL, and stop it.

    Args:
        more: settings, as environment variables.

    Raises:
        NoService: it ended, or was not ready in time; says what it wrote last.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="xent-demo-") as folder:
        log = Path(folder) / "log"
        # The settings of somebody else's service are not this one's.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("XENT_")}
        own = {"XENT_PORT": str(port), "XENT_DATA_DIR": folder, "XENT_LOG_LEVEL": "warning"}
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "service"],
                env={**kept, **own, **more},
                cwd=Path(__file__).parent.parent,
                stdout=stream,
                stderr=stream,
            )
        try:
            _wait(process, url, log)
            yield url
        finally:
            _stop(process)


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    last_s = time.monotonic() + START_S
    while not answers_as_xent(url):
        if process.poll() is not None or time.monotonic() > last_s:
            said = log.read_text(errors="replace")[-2000:]
            raise NoService(f"the service did not start:\n{said}")
        time.sleep(0.05)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
