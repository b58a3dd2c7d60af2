"""Alerts and notes of a project, asked of a service that has a history."""

import inspect
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from openapi.signatures import DOCUMENT
from service.history.database import Database, sqlite_url
from service.history.rules import Rule
from tests.service.harness import Running
from tests.service.history.histories import START, insert_batches
from tests.service.history.test_alerts import batches
from tests.xent.answering import HANG_UP, Answering, response
from xent import (
    Alert,
    AsyncClient,
    Client,
    Conflict,
    InvalidBatch,
    NoAnswer,
    NotFound,
    Project,
    Reference,
    Refused,
    Retries,
    Unreadable,
)
from xent.alerts import Watched

BEGIN = datetime.fromtimestamp(START / 1e6, UTC)
CHANGE = BEGIN + timedelta(minutes=40)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service that remembers an hour, of which the last third went badly."""
    folder = tmp_path_factory.mktemp("history")
    database = Database(sqlite_url(folder))
    database.migrate()
    insert_batches(database, [*batches(0, 40), *batches(40, 60, shift=2)])
    database.close()
    server = Running(data_dir=folder)
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client
    server.stop()


@pytest.fixture
def project(watched: Client) -> Iterator[Project]:
    project = watched.project("p")
    yield project
    for each in project.alerts():
        project.remove_alert(each.name)


def test_a_threshold_is_watched(project: Project) -> None:
    made = project.add_alert(
        "loss", threshold=1.15, since=BEGIN, step="1m", model="m", model_version=["v1"]
    )
    assert (made.name, made.state, made.rule["kind"]) == ("loss", "firing", "threshold")
    assert made.rule["selection"]["model_version"] == ["v1"]
    assert datetime.fromisoformat(made.since) >= CHANGE
    assert made.detail["estimate"] > made.detail["bound"] > made.detail["target"]
    assert project.alerts() == [made]
    assert project.alerts()[0] is project.alerts()[0], "what has not changed is not sent again"
    project.remove_alert("loss")
    assert project.alerts() == []


def test_a_rule_may_say_everything(project: Project) -> None:
    made = project.add_alert(
        "classes",
        metric="recall",
        direction="below",
        reference=Reference(since=BEGIN, until=CHANGE, model_version=("v1",)),
        shift=0.05,
        alpha=0.01,
        min_rows=100,
        step="5m",
        since=CHANGE.isoformat(),
        model="m",
        variant=("sparse",),
        label_schema="animals",
        tags={"region": ["eu", "us"]},
        class_="ant",
    )
    rule = made.rule
    assert (rule["kind"], rule["metric"], rule["direction"]) == ("cusum", "recall", "below")
    assert datetime.fromisoformat(rule["reference"]["to"]) == CHANGE
    assert rule["reference"]["model_version"] == ["v1"]
    assert rule["selection"]["class"] == "ant"
    assert rule["selection"]["tags"] == {"region": ["eu", "us"]}
    assert (rule["alpha"], rule["min_rows"], rule["step"]) == (0.01, 100, "5m")
    assert datetime.fromisoformat(rule["from"]) == CHANGE
    assert made.state == "no_data"
    assert Alert.of(made.document()) == made


def test_a_mean_is_watched_against_another(project: Project) -> None:
    made = project.add_alert(
        "drift", reference=Reference(until=CHANGE), since=CHANGE, step="1m", min_rows=100
    )
    assert (made.rule["kind"], made.state) == ("reference", "firing")


def test_what_cannot_be_watched_is_said(project: Project) -> None:
    with pytest.raises(Refused, match="needs threshold"):
        project.add_alert("nothing")
    with pytest.raises(Refused) as raised:
        project.add_alert("a", metric="loss.max", threshold=1, webhook="http://127.0.0.1/")
    assert raised.value.pointers == ("/metric", "/webhook")
    with pytest.raises(InvalidBatch, match="no time zone"):
        project.add_alert("a", threshold=1, since=datetime(2026, 1, 1))  # noqa: DTZ001
    project.add_alert("twice", threshold=1)
    with pytest.raises(Conflict, match="an alert of that name"):
        project.add_alert("twice", threshold=1)
    with pytest.raises(NotFound):
        project.remove_alert("a/b?c")


def test_an_alert_knows_every_part_of_a_rule() -> None:
    schemas = json.loads(DOCUMENT.read_text())["components"]["schemas"]
    wire = {"since": "from", "until": "to", "class_": "class"}

    def named(names: object) -> set[str]:
        return {wire.get(str(name), str(name)) for name in names} - {"self"}  # type: ignore[attr-defined]

    parameters = set(inspect.signature(Project.add_alert).parameters) - {"selection"}
    assert named(parameters) | {"kind", "selection"} == set(schemas["Rule"]["properties"])
    assert named(Watched.__annotations__) == set(schemas["Watched"]["properties"])
    assert named(Reference.__dataclass_fields__) == set(schemas["Reference"]["properties"])
    defaults = Rule(name="a", kind="threshold", threshold=1)
    assert (defaults.alpha, defaults.min_rows) == (0.05, 500), "as the documentation says"


def test_a_change_is_not_sent_twice_where_nobody_knows_whether_it_arrived() -> None:
    twice = Retries(attempts=2, base_s=0.001)
    asked: list[Callable[[Project], object]] = [
        lambda project: project.add_alert("a", threshold=1),
        lambda project: project.remove_alert("a"),
        lambda project: project.remove_note(3),
    ]
    for ask in asked:
        with (
            Answering([HANG_UP]) as server,
            Client(server.url, retries=twice) as client,
            pytest.raises(NoAnswer),
        ):
            ask(client.project("p"))
        assert len(server.heads) == 1


def test_what_is_no_alert_is_not_taken_for_one() -> None:
    with (
        Answering([response(200, b'{"alerts": [{"rule": {}}]}')]) as server,
        Client(server.url) as client,
        pytest.raises(Unreadable, match="no alert of Xent"),
    ):
        client.project("p").alerts()


def test_a_note_is_taken_back(project: Project) -> None:
    note = project.note("a mistake", time=BEGIN)
    assert "a mistake" in project.annotations().table["text"]
    project.remove_note(note["id"])
    assert "a mistake" not in project.annotations().table["text"]
    with pytest.raises(NotFound):
        project.remove_note(note["id"])


@pytest.mark.anyio
async def test_whoever_awaits_watches_too(watched: Client, project: Project) -> None:
    async with AsyncClient(watched.configuration.url) as client:
        made = await client.project("p").add_alert("loss", threshold=9.0)
        assert await client.project("p").alerts() == [made] == project.alerts()
        await client.project("p").remove_alert("loss")
    assert project.alerts() == []
