"""What is measured runs in processes of its own, on loopback, and is stopped at the end."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from benchmarks import environments

ROOT: Final = Path(__file__).parent.parent
PROCESSES: Final = Path("/proc")
START_S: Final = 120.0
STOP_S: Final = 20.0
PROBE_S: Final = 5.0
READ_AT_MOST: Final = 4000


@dataclass(frozen=True, slots=True)
class Server:
    """A process that listens on a port."""

    process_id: int
    port: int


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started.

    Attributes:
        command: what is run.
        port: where it is to listen.
        ready: the path that is answered 200 once it serves; ``None`` for no HTTP.
        environment: on top of this process's.
    """

    command: Sequence[str]
    port: int
    ready: str | None
    environment: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def xent(**settings: object) -> Iterator[Server]:
    """Run the service with its defaults, but for the port, its own data and these settings."""
    port = int(str(settings.get("port", free_port())))
    with tempfile.TemporaryDirectory(prefix="xent-bench-") as folder:
        # built: no compiler runs beside what is measured.
        given = {
            "PORT": port,
            "DATA_DIR": folder,
            "LOG_LEVEL": "error",
            "KERNELS": "built",
            **{key.upper(): value for key, value in settings.items()},
        }
        environment = {f"XENT_{key}": str(value) for key, value in given.items()}
        command = [sys.executable, "-m", "service"]
        with _running(Launch(command, port, "/health/ready", environment)) as server:
            yield server


@contextmanager
def floor(count: int, buffer: int | None = None) -> Iterator[Server]:
    """Run a plain socket that takes ``count`` bytes at a time; the buffer may be smaller."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.floor", *map(str, (port, count, buffer or count))]
    with _running(Launch(command, port, None)) as server:
        yield server


@contextmanager
def route() -> Iterator[Server]:
    """Run the FastAPI route."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.route", str(port)]
    with _running(Launch(command, port, "/openapi.json")) as server:
        yield server


@contextmanager
def litserve() -> Iterator[Server]:
    """Run the loss behind LitServe.

    Raises:
        NotInstalled: it cannot be had here.
    """
    port = free_port()
    command = [str(environments.python("litserve")), "-m", "benchmarks.peers.litserve", str(port)]
    with _running(Launch(command, port, "/health")) as server:
        yield server


def mlserver() -> AbstractContextManager[Server]:
    """Run the loss behind MLServer.

    Raises:
        NotInstalled: it cannot be had here.
    """
    return _of_kserve("mlserver")


def pytriton() -> AbstractContextManager[Server]:
    """Run the loss behind Triton, which PyTriton brings and starts.

    Raises:
        NotInstalled: it cannot be had here.
    """
    return _of_kserve("pytriton")


@contextmanager
def bentoml() -> Iterator[Server]:
    """Run the loss behind BentoML.

    Raises:
        NotInstalled: it cannot be had here.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="xent-bench-") as folder:
        # It would tell its makers about every start.
        environment = {"BENTOML_HOME": folder, "BENTOML_DO_NOT_TRACK": "True"}
        command = [
            *(str(environments.python("bentoml")), "-m", "bentoml", "serve"),
            *("benchmarks.peers.bento:Loss", "--host", "127.0.0.1", "--port", str(port)),
        ]
        with _running(Launch(command, port, "/readyz", environment)) as server:
            yield server


@contextmanager
def _of_kserve(name: str) -> Iterator[Server]:
    """Run a peer that speaks KServe V2, and is given a folder of its own."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="xent-bench-") as folder:
        module = f"benchmarks.peers.{name}"
        command = [str(environments.python(name)), "-m", module, str(port), folder]
        with _running(Launch(command, port, "/v2/models/loss/ready")) as server:
            yield server


@contextmanager
def _running(launch: Launch) -> Iterator[Server]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("XENT_")}
    stated = {key: os.environ[key] for key in ("XENT_KERNELS_DIR",) if key in os.environ}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603  (modules of this repository)
            [*_ended_with_this_process(), *launch.command],
            cwd=ROOT,
            env={**kept, **stated, **launch.environment, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _wait(process, launch, log)
            yield Server(process.pid, launch.port)
        finally:
            _stop(process)


def _ended_with_this_process() -> list[str]:
    """Return a prefix of commands: even if this process is killed, what it started ends with it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def _wait(process: "subprocess.Popen[bytes]", launch: Launch, log: IO[bytes]) -> None:
    last_s = time.monotonic() + START_S
    while not _ready(launch):
        if process.poll() is not None or time.monotonic() > last_s:
            log.seek(max(0, log.seek(0, os.SEEK_END) - READ_AT_MOST))
            said = log.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(launch.command)} did not start:\n{said}")
        time.sleep(0.05)


def _ready(launch: Launch) -> bool:
    try:
        if launch.ready is None:
            socket.create_connection(("127.0.0.1", launch.port), timeout=PROBE_S).close()
            return True
        connection = http.client.HTTPConnection("127.0.0.1", launch.port, timeout=PROBE_S)
        try:
            connection.request("GET", launch.ready)
            return connection.getresponse().status == http.HTTPStatus.OK
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a server and whatever it started, which may have left its process group."""
    with ExitStack() as handles:
        # Handles, not numbers: a number may be another process's by the time it is used.
        others = [handles.enter_context(_handle(each)) for each in _descendants(process.pid)]
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        for other in others:
            if other is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(other, signal.SIGKILL)
        process.kill()
        process.wait()


@contextmanager
def _handle(process_id: int) -> Iterator[int | None]:
    try:
        handle = os.pidfd_open(process_id)
    except ProcessLookupError:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _descendants(process_id: int) -> list[int]:
    """Return the processes that a process started, and those that they started."""
    children: dict[int, list[int]] = {}
    for stat in PROCESSES.glob("[0-9]*/stat"):
        with suppress(OSError):
            # proc(5): pid (name) state ppid ...; a name may hold anything, parentheses too.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = [], [process_id]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
