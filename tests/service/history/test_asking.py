"""The history over HTTP: keys, entity tags, problems, and what the OpenAPI document promises."""

import io
import json
import threading
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from service.history.database import Database
from service.routes.history import QUESTIONS
from tests.service.conftest import Start
from tests.service.harness import Running
from tests.service.history.histories import history, insert_batches

REFERENCE = "reference_to=2026-01-01T00:05:00Z"
QUERIES = {
    "series": [""],
    "timeseries": ["", "?by=model_version", "?by=class&class=top:2&step=5m&min_rows=30"],
    "classes": ["", f"?{REFERENCE}&step=5m"],
    "hardest": ["", "?limit=3"],
    "calibration": ["", f"?{REFERENCE}"],
    "histogram": ["", f"?{REFERENCE}"],
    "annotations": [""],
}


@pytest.fixture
def running(start: Start) -> Running:
    server = start()
    insert_batches(database_of(server), history(minutes=15, rows=20))
    return server


def database_of(server: Running) -> Database:
    database: Database = server.server.config.app.state.database  # type: ignore[union-attr]
    return database


def validator(document: dict[str, Any], path: str) -> Draft202012Validator:
    answer = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
    return Draft202012Validator({**answer["schema"], "components": document["components"]})


def test_answers_fit_their_schema_and_say_what_they_are_of(running: Running) -> None:
    client = running.client
    document = client.get("/openapi.json").json()
    assert [asked.name for asked in QUESTIONS] == list(QUERIES)
    for name, queries in QUERIES.items():
        for query in queries:
            answer = client.get(f"/projects/p/{name}{query}")
            assert answer.status_code == 200, answer.text
            validator(document, f"/projects/{{project}}/{name}").validate(answer.json())
            assert (answer.json()["project"], answer.json()["revision"]) == ("p", 36)
            assert answer.headers["cache-control"] == "no-cache"
    for path, of in (
        ("/projects", "/projects"),
        ("/projects/p/options/class", "/projects/{project}/options/{dimension}"),
    ):
        validator(document, of).validate(client.get(path).json())


def test_parameters_are_described(running: Running) -> None:
    paths = running.client.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        asked = path.startswith("/projects/{project}") and not path.endswith("/alerts")
        if asked and "get" in operations:
            names = {each["name"] for each in operations["get"]["parameters"]}
            assert {"project", "model", "from", "to", "tag"} <= names, path
            assert {"401", "403", "404", "422", "503"} <= set(operations["get"]["responses"])


def test_what_has_not_changed_is_not_sent_again(running: Running) -> None:
    client = running.client
    path = "/projects/p/timeseries?by=model_version"
    first = client.get(path)
    tag = first.headers["etag"]
    assert tag.startswith('W/"36-')

    def again(given: str, of: str = path) -> httpx2.Response:
        return client.get(of, headers={"if-none-match": given})

    for known in (tag, f'"x", {tag}', "*"):
        unchanged = again(known)
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["etag"] == tag
    assert again('W/"35-0"').status_code == 200
    assert again(tag, "/projects/p/timeseries?by=model").status_code == 200
    assert again(tag, "/projects/p/series?by=model_version").status_code == 422
    client.post(
        "/projects/p/annotations", json={"time": "2026-01-01T00:00:00Z", "text": "x"}
    ).raise_for_status()
    changed = again(tag)
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
    assert changed.json()["rows"] == first.json()["rows"]


def test_problems_name_what_is_wrong(running: Running) -> None:
    client = running.client

    def problem(path: str) -> tuple[int, str, str]:
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code, answer.json()["type"], answer.json()["detail"]

    status, kind, detail = problem("/projects/q/series")
    assert (status, kind) == (404, "/problems/project-unknown")
    assert "GET /projects lists them" in detail
    status, kind, detail = problem("/projects/p/timeseries?metrics=x")
    assert (status, kind) == (422, "/problems/document-invalid")
    assert detail.startswith("/metrics: no such parameter; known: model, ")
    assert problem("/projects/p/timeseries?from=2026-01-01T00:00:00")[0] == 422
    assert problem("/projects/p/options/colour")[0] == 422
    assert problem("/projects?model=m")[0] == 422
    assert problem("/projects/p/export?format=xml")[0] == 422
    assert problem("/projects/q/export")[0] == 404


def test_keys_open_what_their_scopes_say(start: Start) -> None:
    server = start(api_keys="reader:read,writer:evaluate,boss:manage")
    insert_batches(database_of(server), history(minutes=1, rows=5))
    note = {"time": "2026-01-01T00:00:00Z", "text": "x"}

    def status(key: str, method: str, path: str, document: object = None) -> int:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return server.client.request(method, path, headers=headers, json=document).status_code

    paths = [f"/projects/p/{name}" for name in (*QUERIES, "export", "options/model")]
    for path in ("/projects", *paths):
        found = [status(key, "GET", path) for key in ("reader", "writer", "boss", "", "x")]
        assert found == [200, 403, 403, 401, 401], path
    posted = [
        status(key, "POST", "/projects/p/annotations", note)
        for key in ("boss", "reader", "writer", "")
    ]
    assert posted == [201, 403, 403, 401]
    for key, expected in (("reader", 403), ("", 401), ("boss", 204), ("boss", 404)):
        assert status(key, "DELETE", "/projects/p/annotations/1") == expected


def test_notes_are_checked(running: Running) -> None:
    def post(**more: Any) -> httpx2.Response:  # noqa: ANN401
        return running.client.post("/projects/p/annotations", **more)

    good = {"time": "2026-01-01T01:00:00+01:00", "text": "a new camera"}
    made = post(json=good)
    assert made.status_code == 201
    assert made.json()["time"] == "2026-01-01T00:00:00Z"
    assert post(json={**good, "time": "2026-01-01T00:00:00"}).status_code == 422
    assert post(json={**good, "colour": "red"}).json()["errors"][0]["pointer"] == "/colour"
    assert post(json={**good, "series": 99}).status_code == 422
    assert post(json={**good, "series": "99"}).json()["errors"][0]["pointer"] == "/series"
    assert post(content=b"{", headers={"content-type": "application/json"}).status_code == 400
    assert post(json={**good, "text": "x" * 70_000}).status_code == 413
    assert post(content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    path = f"/projects/p/annotations/{made.json()['id']}"
    assert running.client.delete(path).status_code == 204
    assert running.client.delete(path).json()["type"] == "/problems/annotation-unknown"


def test_exports_are_files(running: Running) -> None:
    client = running.client
    file = client.get("/projects/p/export")
    assert file.headers["content-disposition"] == 'attachment; filename="p.parquet"'
    assert file.headers["content-type"] == "application/vnd.apache.parquet"
    assert pq.read_table(io.BytesIO(file.content)).num_rows == 36
    lines = client.get("/projects/p/export?format=jsonl&model_version=v1")
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert len([json.loads(line) for line in lines.text.splitlines()]) == 18
    text = client.get("/projects/p/export?format=csv")
    assert text.headers["content-type"] == "text/csv; charset=utf-8"


def test_a_database_that_is_away_is_no_bug(running: Running, tmp_path: Path) -> None:
    database_of(running).close()  # connections that are open go on
    elsewhere = tmp_path.rename(tmp_path.with_name("elsewhere"))
    away = running.client.get("/projects/p/series")
    assert away.status_code == 503
    assert int(away.headers["retry-after"]) >= 1
    elsewhere.rename(tmp_path)
    assert running.client.get("/projects/p/series").status_code == 200


def test_questions_are_answered_beside_each_other(running: Running) -> None:
    """Many at once, more than there are threads: all are right, and health answers meanwhile."""
    expected = running.client.get("/projects/p/timeseries?metric=loss.p99").json()
    found: list[Any] = []

    def get() -> None:
        url = f"http://127.0.0.1:{running.port}/projects/p/timeseries?metric=loss.p99"
        found.append(httpx2.get(url).json())

    threads = [threading.Thread(target=get) for _ in range(20)]
    for each in threads:
        each.start()
    assert running.client.get("/health/live").status_code == 200
    for each in threads:
        each.join()
    assert found == [expected] * 20


def test_what_was_evaluated_is_told(start: Start) -> None:
    """From the logits to the line of a chart: nothing is lost, nothing counts twice."""
    client = start().client
    random = np.random.default_rng(0)
    names = ["ant", "bee", "cat"]
    losses: list[float] = []
    sums: dict[str, list[float]] = {name: [0.0, 0.0] for name in names}
    for minute in range(6):
        logits = random.normal(0, 2, (20, 3)).tolist()
        labels = random.integers(0, 3, 20).tolist()
        track = {
            "project": "p",
            "model": "m",
            "model_version": "v1" if minute < 3 else "v2",
            "batch_id": f"b{minute}",
            "event_time": f"2026-01-01T00:0{minute}:00Z",
            "label_schema": {"name": "insects", "classes": names},
        }
        body = {
            "logits": logits,
            "labels": labels,
            "track": track,
            "outputs": ["per_class", "per_sample", "distribution"],
        }
        answer = client.post("/loss/focal", json=body)
        assert answer.status_code == 200, answer.text
        losses += answer.json()["per_sample"]
        per_class = answer.json()["per_class"]
        for index, name in enumerate(names):
            sums[name][0] += per_class["loss_sum"][index]
            sums[name][1] += per_class["support"][index]
        assert client.post("/loss/focal", json=body).json()["track"]["status"] == "replayed"
    whole = "/projects/p/timeseries?step=1d"
    (mean,) = client.get(whole).json()["rows"]
    assert mean["value"] == pytest.approx(np.mean(losses), rel=1e-6)
    assert mean["rows"] == 120
    error = np.std(losses, ddof=1) / np.sqrt(120)
    assert mean["high"] - mean["low"] == pytest.approx(2 * 1.98 * error, rel=0.01)
    (largest,) = client.get(f"{whole}&metric=loss.max").json()["rows"]
    assert largest["value"] == pytest.approx(max(losses), rel=1e-6)
    for row in client.get(f"{whole}&by=class").json()["rows"]:
        total, support = sums[row["class"]]
        assert row["value"] == pytest.approx(total / support, rel=1e-6)
        assert row["rows"] == support
    (hardest,) = client.get("/projects/p/hardest?limit=1").json()["rows"]
    assert hardest["loss"] == pytest.approx(max(losses), rel=1e-6)
    assert hardest["label_name"] in names
    kinds = [each["kind"] for each in client.get("/projects/p/annotations").json()["annotations"]]
    assert kinds == ["version", "version"]
    assert client.get("/projects").json()["projects"][0]["rows"] == 120
    document = client.get("/openapi.json").json()
    for name, queries in QUERIES.items():
        answer = client.get(f"/projects/p/{name}{queries[0]}")
        validator(document, f"/projects/{{project}}/{name}").validate(answer.json())
