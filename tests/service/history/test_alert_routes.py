"""Alerts and comparisons over HTTP."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from service.history.database import Database
from service.history.rules import Rule
from service.problems import MEDIA_TYPE
from service.routes.alerts import _EXAMPLE
from tests.service.conftest import Start
from tests.service.harness import Running, until
from tests.service.history.histories import Batch, insert_batches
from tests.service.history.test_alerts import RULE, batches
from tests.service.history.test_webhooks import Receiver

PATH = "/projects/p/alerts"


@pytest.fixture
def server(start: Start) -> Running:
    server = start(alert_interval_s=0.05)
    record(server, batches(0, 30))
    return server


def record(server: Running, rows: list[Batch]) -> None:
    database: Database = server.server.config.app.state.database  # type: ignore[union-attr]
    insert_batches(database, rows)


def problem(response: httpx2.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == MEDIA_TYPE, response.text
    return response.status_code, response.json()["type"].removeprefix("/problems/")


def test_an_alert_lives(server: Running) -> None:
    client = server.client
    made = client.post(PATH, json=RULE)
    assert made.status_code == 201, made.text
    assert (made.json()["state"], made.json()["rule"]["name"]) == ("ok", "loss")
    listed = client.get(PATH)
    assert listed.json()["alerts"] == [made.json()]
    tag = {"if-none-match": listed.headers["etag"]}
    assert client.get(PATH, headers=tag).status_code == 304
    record(server, batches(30, 60, shift=2))
    fires = client.get(PATH, headers=tag)
    assert (fires.status_code, fires.json()["alerts"][0]["state"]) == (200, "firing")
    metrics = client.get("/metrics").text
    assert 'xent_alerts{alert="loss",project="p",state="firing"} 1.0' in metrics
    assert 'xent_alerts{alert="loss",project="p",state="ok"} 0.0' in metrics
    gone = client.delete(f"{PATH}/loss")
    assert (gone.status_code, gone.content) == (204, b"")
    assert client.get(PATH).json()["alerts"] == []
    assert "xent_alerts{" not in client.get("/metrics").text


def test_alerts_are_looked_at_without_being_asked(server: Running) -> None:
    server.client.post(PATH, json=RULE)
    record(server, batches(30, 60, shift=2))
    firing = 'xent_alerts{alert="loss",project="p",state="firing"} 1.0'
    until(lambda: firing in server.client.get("/metrics").text)


def test_problems(server: Running) -> None:
    client = server.client
    assert client.post(PATH, json=RULE).status_code == 201
    assert problem(client.post(PATH, json=RULE)) == (409, "alert-exists")
    assert problem(client.get("/projects/q/alerts")) == (404, "project-unknown")
    assert problem(client.post("/projects/q/alerts", json=RULE)) == (404, "project-unknown")
    assert problem(client.delete(f"{PATH}/x")) == (404, "alert-unknown")
    assert problem(client.get(f"{PATH}?x=1")) == (422, "document-invalid")
    assert problem(client.post(PATH, json=[])) == (422, "document-invalid")
    as_json = {"content-type": "application/json"}
    assert problem(client.post(PATH, content=b"{", headers=as_json)) == (400, "malformed")
    long = b'"' + b"x" * 70_000 + b'"'
    assert problem(client.post(PATH, content=long, headers=as_json)) == (413, "too-large")
    assert problem(client.post(PATH, content=b"{}")) == (415, "media-type")
    encoded = {**as_json, "content-encoding": "gzip"}
    assert problem(client.post(PATH, content=b"{}", headers=encoded)) == (415, "media-type")


def test_every_fault_is_named_and_nothing_echoed(server: Running) -> None:
    wrong = {**RULE, "name": "b", "metric": "secret", "webhook": "http://127.0.0.1/secret"}
    found = server.client.post(PATH, json=wrong)
    assert [each["pointer"] for each in found.json()["errors"]] == ["/metric", "/webhook"]
    assert "webhook_hosts" in found.json()["errors"][1]["message"]
    assert "secret" not in found.text
    deep = server.client.post(PATH, json={**RULE, "selection": {"class": -1}, "alpha": "x"})
    pointers = [each["pointer"] for each in deep.json()["errors"]]
    assert pointers == ["/selection/class", "/alpha"]


def test_a_body_that_does_not_come(start: Start) -> None:
    server = start(body_deadline_s=0.2)

    def slow() -> Iterator[bytes]:
        yield b"{"
        # The other half comes once the first was answered.
        until(lambda: 'status="408"' in httpx2.get(f"{server.client.base_url}/metrics").text)
        yield b"}"

    headers = {"content-type": "application/json"}
    assert problem(server.client.post(PATH, content=slow(), headers=headers)) == (
        408,
        "body-timeout",
    )


def test_keys_open_what_their_scopes_say(start: Start) -> None:
    server = start(api_keys="r:read,m:manage,e:evaluate")
    record(server, batches(0, 2))
    ask: dict[str, Callable[[dict[str, str]], httpx2.Response]] = {
        "read": lambda headers: server.client.get(PATH, headers=headers),
        "compare": lambda headers: server.client.get(
            "/projects/p/compare?candidate=model:x", headers=headers
        ),
        "write": lambda headers: server.client.post(PATH, json=RULE, headers=headers),
        "remove": lambda headers: server.client.delete(f"{PATH}/loss", headers=headers),
    }
    expected = {
        "": dict.fromkeys(ask, 401),
        "e": dict.fromkeys(ask, 403),
        "r": {"read": 200, "compare": 200, "write": 403, "remove": 403},
        "m": {"read": 403, "compare": 403, "write": 201, "remove": 204},
    }
    for key, statuses in expected.items():
        headers = {"authorization": f"Bearer {key}"} if key else {}
        assert {name: each(headers).status_code for name, each in ask.items()} == statuses


def test_webhooks_are_called_and_survive_a_restart(start: Start) -> None:
    receiver = Receiver(statuses=[500] * 100)
    try:
        url = f"http://{receiver.host}/hook"
        first = start(webhook_hosts=receiver.host, alert_interval_s=0.05)
        record(first, batches(0, 30, shift=2))
        made = first.client.post(PATH, json={**RULE, "webhook": url}).json()
        until(lambda: receiver.requests)
        metrics = first.client.get("/metrics").text
        first.stop()
        assert "xent_webhook_deliveries_total" in metrics
        receiver.statuses.clear()
        failed = len(receiver.requests)
        start(webhook_hosts=receiver.host)
        until(lambda: len(receiver.requests) > failed)
        (path, headers, body) = receiver.requests[-1]
        assert (path, headers["idempotency-key"]) == ("/hook", body["id"])
        assert (body["state"], body["alert"], body["detail"]) == (
            "firing",
            "loss",
            made["detail"],
        )
        assert len({body["id"] for *_, body in receiver.requests}) == 1
    finally:
        receiver.stop()


def test_versions_are_compared(server: Running) -> None:
    record(server, batches(0, 30, shift=0.5, version="v2"))
    query = "baseline=model_version:v1&candidate=model_version:v2"
    found = server.client.get(f"/projects/p/compare?{query}")
    assert found.status_code == 200, found.text
    assert found.json()["verdict"] == "worse"
    tag = {"if-none-match": found.headers["etag"]}
    again = server.client.get(f"/projects/p/compare?{query}", headers=tag)
    assert again.status_code == 304
    same = server.client.get("/projects/p/compare")
    assert problem(same) == (422, "document-invalid")


def test_openapi_describes_it(server: Running) -> None:
    document: dict[str, Any] = server.client.get("/openapi.json").json()
    paths = document["paths"]
    alerts = paths["/projects/{project}/alerts"]
    assert set(alerts) == {"get", "post"}
    assert set(paths["/projects/{project}/alerts/{name}"]) == {"delete"}
    post = alerts["post"]
    body = post["requestBody"]["content"]["application/json"]
    assert Rule.model_validate(body["example"]).name == _EXAMPLE["name"]
    assert {"201", "400", "401", "403", "404", "408", "409", "413", "415", "422", "503"} == set(
        post["responses"]
    )
    names = {each["name"] for each in paths["/projects/{project}/compare"]["get"]["parameters"]}
    assert {"baseline", "candidate", "baseline_from", "candidate_to", "alpha", "variant"} <= names
    schemas = document["components"]["schemas"]
    assert {"Rule", "AlertList", "Comparison", "WebhookMessage"} <= set(schemas)
    assert json.dumps(document).count("$defs") == 0
