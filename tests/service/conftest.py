"""Servers for the tests of the service."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.service.harness import Running

Start = Callable[..., Running]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server with small limits for everybody who does not break it."""
    server = Running(
        workers=2,
        data_dir=tmp_path_factory.mktemp("data"),
        body_bytes=4_000_000,
        rows=100_000,
        classes=2_000,
        elements=400_000,
        document_entries=5_000,
    )
    yield server
    server.stop()


@pytest.fixture
def client(shared: Running) -> httpx2.Client:
    """A client of the shared server."""
    return shared.client


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers with settings of one's own; they are stopped in the end."""
    started: list[Running] = []

    def go(**settings: object) -> Running:
        started.append(Running(**{"data_dir": tmp_path, **settings}))
        return started[-1]

    yield go
    for server in started:
        server.stop()


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on the loop that the service runs on."""
    return "asyncio"
