"""A service behind a real socket, and clients of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.history.database import Database, sqlite_url
from tests.service.harness import Running
from tests.service.history.histories import history, insert_batches
from xent import Client, Retries
from xent.command import app

Run = Callable[..., tuple[int, str, str]]
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


@pytest.fixture(scope="session")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that remembers two versions of a model, a batch a minute."""
    folder = tmp_path_factory.mktemp("history")
    database = Database(sqlite_url(folder))
    database.migrate()
    insert_batches(database, history(minutes=30))
    database.close()
    server = Running(data_dir=folder)
    yield server
    server.stop()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """A client of it."""
    with Client(url, retries=EAGER) as client:
        yield client


@pytest.fixture
def run(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """Run the command against the service: from its arguments to exit code, output and errors."""
    monkeypatch.setenv("XENT_URL", url)
    monkeypatch.chdir(tmp_path)

    def go(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = app.run([str(each) for each in arguments])
        found = capsys.readouterr()
        return code, found.out, found.err

    return go


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on the loop that everybody has."""
    return "asyncio"
