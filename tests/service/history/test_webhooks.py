"""Webhooks: to whom, how often, and what survives; against a real HTTP server."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from service.history import tables, webhooks
from service.history.database import Database
from service.history.webhooks import Outcome, Webhooks, backoff_s, refusal
from tests.service.harness import PATIENCE_S, until
from tests.service.history.histories import START, history, insert_batches


@dataclass
class Receiver:
    """A server that answers with these statuses, one after the other, then with 204."""

    statuses: list[int] = field(default_factory=list)
    delay_s: float = 0.0
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((self.path, headers, body))
                receiver.stopping.wait(receiver.delay_s)
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
                self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    def stop(self) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


class Sender:
    """Webhooks that write down what became of every attempt."""

    def __init__(self, database: Database, *hosts: str, deadline_s: float = PATIENCE_S) -> None:
        self.outcomes: list[Outcome] = []
        self.errors: list[Exception] = []
        self.webhooks = Webhooks(
            database,
            hosts,
            deadline_s=deadline_s,
            count=self.outcomes.append,
            report=self.errors.append,
        )
        self.webhooks.start()

    def stop(self) -> None:
        self.webhooks.stop()
        assert not self.errors


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "POLL_S", 0.05)
    monkeypatch.setattr(webhooks, "backoff_s", lambda attempts: 0.02 * attempts)


def alert(database: Database, url: str) -> int:
    """Make a project and an alert with that webhook; return the alert's id."""
    insert_batches(database, history(minutes=1))
    with database.writing() as connection:
        project = connection.execute(select(tables.project.c.id)).scalar_one()
        made = insert(tables.alert).values(
            project_id=project,
            name="a",
            rule=json.dumps({"webhook": url}),
            created=START,
            state="ok",
            since=START,
            detail="{}",
        )
        return int(connection.execute(made).inserted_primary_key[0])  # type: ignore[index]


def leave(database: Database, key: int, number: int = 1) -> None:
    with database.writing() as connection:
        body = {"id": f"message-{number}", "state": "firing"}
        webhooks.post(connection, key, body, time.time_ns() // 1000)


def left(database: Database) -> int:
    with database.reading() as connection:
        return len(connection.execute(select(tables.delivery.c.id)).all())


def test_a_message_is_sent_until_it_is_taken(database: Database, receiver: Receiver) -> None:
    receiver.statuses = [500, 404, 302]
    key = alert(database, f"http://{receiver.host}/hook?x=1")
    leave(database, key)
    sender = Sender(database, receiver.host)
    until(lambda: left(database) == 0)
    sender.stop()
    assert sender.outcomes == ["failed", "failed", "failed", "delivered"]
    assert [path for path, *_ in receiver.requests] == ["/hook?x=1"] * 4  # no redirect is followed
    for _, headers, body in receiver.requests:
        assert headers["idempotency-key"] == body["id"] == "message-1"
        assert headers["content-type"] == "application/json"
        assert headers["user-agent"].startswith("xent/")
        assert body["state"] == "firing"


def test_what_was_not_delivered_survives_a_restart(database: Database, receiver: Receiver) -> None:
    receiver.statuses = [503] * 1000
    key = alert(database, f"http://{receiver.host}/")
    leave(database, key)
    first = Sender(database, receiver.host)
    until(lambda: first.outcomes)
    first.stop()
    assert left(database) == 1
    assert set(first.outcomes) == {"failed"}
    receiver.statuses.clear()
    second = Sender(database, receiver.host)
    until(lambda: left(database) == 0)
    second.stop()
    assert second.outcomes[-1] == "delivered"
    assert {body["id"] for *_, body in receiver.requests} == {"message-1"}


def test_what_was_being_sent_when_the_process_died_is_sent_again(
    database: Database, receiver: Receiver
) -> None:
    leave(database, alert(database, f"http://{receiver.host}/"))
    one, other = (
        Webhooks(database, (), deadline_s=PATIENCE_S, count=print, report=print) for _ in range(2)
    )
    assert [message.attempts for message in one._take()] == [1]  # and it dies
    assert other._take() == []  # not yet
    with database.writing() as connection:
        connection.execute(update(tables.delivery).values(due=time.time_ns() // 1000))
    sender = Sender(database, receiver.host)
    until(lambda: left(database) == 0)
    sender.stop()
    assert [body["id"] for *_, body in receiver.requests] == ["message-1"]


def test_only_one_of_two_processes_sends_a_message(database: Database, receiver: Receiver) -> None:
    receiver.delay_s = 0.2
    key = alert(database, f"http://{receiver.host}/")
    for number in range(4):
        leave(database, key, number)
    senders = [Sender(database, receiver.host) for _ in range(2)]
    until(lambda: left(database) == 0)
    for sender in senders:
        sender.stop()
    ids = sorted(body["id"] for *_, body in receiver.requests)
    assert ids == [f"message-{number}" for number in range(4)]


def test_in_the_end_it_is_given_up(
    database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "ATTEMPTS", 3)
    receiver.statuses = [500] * 9
    leave(database, alert(database, f"http://{receiver.host}/"))
    sender = Sender(database, receiver.host)
    until(lambda: left(database) == 0)
    sender.stop()
    assert sender.outcomes == ["failed", "failed", "given_up"]


def test_a_host_that_is_slow_or_not_there_has_failed(
    database: Database, receiver: Receiver
) -> None:
    receiver.delay_s = PATIENCE_S
    slow = Sender(database, receiver.host, deadline_s=0.1)
    leave(database, alert(database, f"http://{receiver.host}/"))
    slow.webhooks.wake()
    until(lambda: slow.outcomes)
    slow.stop()
    assert slow.outcomes[0] == "failed"
    with database.writing() as connection:
        connection.execute(update(tables.alert).values(rule='{"webhook": "http://127.0.0.1:1/"}'))
    nobody = Sender(database, "127.0.0.1:1")
    until(lambda: nobody.outcomes)
    nobody.stop()
    assert nobody.outcomes[0] == "failed"


def test_a_host_that_is_not_allowed_any_more_is_not_sent_to(
    database: Database, receiver: Receiver
) -> None:
    leave(database, alert(database, f"http://{receiver.host}/"))
    sender = Sender(database, "example.org")
    until(lambda: sender.outcomes)
    sender.stop()
    assert sender.outcomes[0] == "failed"
    assert not receiver.requests


HOSTS = ("example.org", "hooks.example.org:8443", "[::1]:9000", "10.0.0.1")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/hook?token=x",
        "http://EXAMPLE.org",
        "https://example.org:443/",
        "https://hooks.example.org:8443/",
        "http://[::1]:9000/",
        "http://10.0.0.1/",
    ],
)
def test_hosts_that_are_allowed(url: str) -> None:
    assert refusal(url, HOSTS) is None
    assert refusal(url, ()) is not None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "//example.org/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http:///x",
        "https://example.org:8443/",
        "https://hooks.example.org/",
        "https://sub.example.org/",
        "https://example.org.evil.com/",
        "https://example.org@evil.com/",
        "https://user:password@example.org/",
        "https://evil.com/?example.org",
        "https://evil.com/#@example.org",
        "https://evil.com\\@example.org/",
        "https://example.org\t.evil.com/",
        "https://example.org/#fragment",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://[::1]/",
        "http://10.0.0.1:22/",
        "http://example.org:99999/",
        "http://example.org:x/",
        "https://example.org/" + "x" * 3000,
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    assert refusal(url, HOSTS) is not None


def test_waits_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    waits = [[backoff_s(attempts) for _ in range(50)] for attempts in range(1, 15)]
    for attempts, each in enumerate(waits, start=1):
        longest = min(3600.0, 2.0 ** (attempts - 1))
        assert longest / 2 <= min(each) < max(each) <= longest
    assert sum(max(each) for each in waits) < 6 * 3600
