"""A service behind a real socket, and clients of it."""

from collections.abc import Iterator

import pytest

from tests.service.harness import Running
from xent import Client, Retries

EAGER = Retries(attempts=3, base_s=0.001, longest_s=0.5)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service for everybody who does not break it."""
    server = Running(workers=2, data_dir=tmp_path_factory.mktemp("data"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def url(service: Running) -> str:
    """Where it is."""
    return f"http://127.0.0.1:{service.port}"


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """A client of it."""
    with Client(url, retries=EAGER) as client:
        yield client


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on the loop that everybody has."""
    return "asyncio"
