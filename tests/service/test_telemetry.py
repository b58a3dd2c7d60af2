"""Logs and metrics."""

import io
import json
import logging
from collections.abc import Iterator

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from service.settings import Settings
from service.telemetry import Telemetry, make_logger
from tests.service.conftest import Start
from tests.service.harness import BATCH


@pytest.fixture(autouse=True)
def restore_server_logger() -> Iterator[None]:
    server = logging.getLogger("uvicorn")
    handlers, level, propagate = server.handlers, server.level, server.propagate
    yield
    server.handlers, server.propagate = handlers, propagate
    server.setLevel(level)


def samples(text: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_metrics_count_what_happened(start: Start) -> None:
    client = start(workers=2).client
    sent = client.post("/loss/sparse", json={**BATCH, "labels": [0, -100]})
    client.post("/loss/sparse", json={**BATCH, "labels": [0, 9]})
    client.post("/loss/nothing")
    client.request("TRACE", "/health/live")
    found = samples(client.get("/metrics").text)
    labels = 'method="POST",route="/loss/sparse"'
    assert found[f'xent_requests_total{{{labels},status="200"}}'] == 1
    assert found[f'xent_requests_total{{{labels},status="422"}}'] == 1
    assert found['xent_requests_total{method="other",route="/health/live",status="405"}'] == 1
    assert found['xent_request_duration_seconds_count{route="/loss/sparse"}'] == 2
    assert found['xent_rows_total{outcome="evaluated",variant="sparse"}'] == 1
    assert found['xent_rows_total{outcome="ignored",variant="sparse"}'] == 1
    assert found["xent_request_bytes_total"] > 100
    assert found["xent_response_bytes_total"] >= len(sent.content)
    assert found["xent_queue_depth"] == 0
    assert found['xent_workers{state="idle"}'] == 2
    assert found['xent_workers{state="busy"}'] == found['xent_workers{state="dead"}'] == 0
    assert any(name.startswith("xent_device_info{") for name in found)
    assert not any("/loss/nothing" in name for name in found)


def request_line(log: io.BytesIO) -> dict[str, object]:
    lines: list[dict[str, object]] = [json.loads(line) for line in log.getvalue().splitlines()]
    return lines[-1]


async def call(app: Telemetry) -> httpx2.Response:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        return await client.get("/bug", headers={"x-request-id": "r-1"})


@pytest.mark.anyio
async def test_a_bug_is_logged_with_its_traceback_and_answered_without(start: Start) -> None:
    async def bug(_: Scope, __: Receive, ___: Send) -> None:
        key = "local " + "variable"
        raise ZeroDivisionError("secret" if key else "")

    log = io.BytesIO()
    metrics = start().metrics
    app = Telemetry(bug, metrics=metrics, log=make_logger(Settings(), log))
    response = await call(app)
    assert response.status_code == 500
    assert response.json()["type"] == "/problems/internal"
    assert response.json()["request_id"] == "r-1"
    assert "secret" not in response.text
    assert b"ZeroDivisionError" in log.getvalue().splitlines()[0]
    assert b"local variable" not in log.getvalue()
    assert request_line(log)["status"] == 500


@pytest.mark.anyio
async def test_a_bug_amid_an_answer_breaks_the_connection(start: Start) -> None:
    async def bug(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    log = io.BytesIO()
    metrics = start().metrics
    app = Telemetry(bug, metrics=metrics, log=make_logger(Settings(), log))
    with pytest.raises(ZeroDivisionError):
        await app({"type": "http", "method": "GET", "path": "/", "headers": []}, _nothing, _swallow)


async def _nothing() -> dict[str, object]:
    raise AssertionError


async def _swallow(message: object) -> None:
    pass


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_the_servers_own_messages_look_like_ours(log_format: str) -> None:
    log = io.BytesIO()
    make_logger(Settings.model_validate({"log_format": log_format, "log_level": "info"}), log)
    logging.getLogger("uvicorn.error").info("running on %s", "x")
    logging.getLogger("uvicorn.error").debug("unheard")
    text = log.getvalue().decode()
    assert "running on x" in text
    assert len(text.splitlines()) == 1
    assert ("{" in text) == (log_format == "json")
