"""Busy services, broken connections, keys, and services that are none; over real sockets."""

import gzip
import json
import socket
import time
from collections.abc import Iterator
from statistics import fmean

import pytest

from tests.service.harness import PATIENCE_S, Running
from tests.xent.answering import HANG_UP, Answering, response
from tests.xent.rows import LABELS, LOGITS, chunks
from xent import (
    AsyncClient,
    Client,
    Conflict,
    Forbidden,
    InvalidConfiguration,
    NoAnswer,
    NotFound,
    Problem,
    QueueFull,
    Retries,
    ServiceFailed,
    TimedOut,
    Unauthenticated,
    Unavailable,
    Unreadable,
)
from xent.calls import Call, Reply
from xent.configuration import Configuration
from xent.conversations import Failed, Memory, Send, Wait, converse

QUICK = Retries(attempts=3, base_s=0.001, longest_s=0.5)
ANSWER = {
    "variant": "sparse",
    "family": "softmax",
    "loss": 0.5,
    "undefined": None,
    "reduction": {"name": "mean", "sum": 1.0, "denominator": 2.0, "normaliser": "weights"},
    "rows": {"total": 2, "evaluated": 2, "ignored": 0, "nonfinite": 0, "infinite": 0},
    "classes": 4,
    "label_kind": "integer",
    "settings": {},
    "diagnostics": [],
    "what newer services say": 1,
}
GOOD = response(200, json.dumps(ANSWER).encode())
BUSY = response(429, b'{"detail": "no place"}', retry_after="0.05")
DRAINING = response(503, b'{"detail": "draining"}')


@pytest.mark.parametrize("refusal", [BUSY, DRAINING, HANG_UP], ids=["429", "503", "hang up"])
def test_what_passes_is_tried_again(refusal: bytes) -> None:
    with Answering([refusal, refusal, GOOD]) as server, Client(server.url, retries=QUICK) as client:
        assert client.loss("sparse", LOGITS, LABELS).loss == 0.5
        assert len(server.heads) == 3


def test_a_retry_after_is_waited_for() -> None:
    with Answering([BUSY, GOOD]) as server, Client(server.url, retries=QUICK) as client:
        began = time.monotonic()
        client.loss("sparse", LOGITS, LABELS)
        assert time.monotonic() - began >= 0.05


@pytest.mark.anyio
async def test_whoever_awaits_is_tried_again_too() -> None:
    with Answering([BUSY, HANG_UP, GOOD]) as server:
        async with AsyncClient(server.url, retries=QUICK) as client:
            assert (await client.loss("sparse", LOGITS, LABELS)).loss == 0.5


def test_after_the_last_try_the_problem_is_raised() -> None:
    with (
        Answering([BUSY] * 3) as server,
        Client(server.url, retries=QUICK) as client,
        pytest.raises(QueueFull, match="no place") as raised,
    ):
        client.loss("sparse", LOGITS, LABELS)
    assert raised.value.retry_after_s == 0.05


def test_a_wait_longer_than_the_longest_is_not_begun() -> None:
    late = response(503, retry_after="3600")
    with (
        Answering([late]) as server,
        Client(server.url, retries=QUICK) as client,
        pytest.raises(Unavailable) as raised,
    ):
        client.loss("sparse", LOGITS, LABELS)
    assert raised.value.retry_after_s == 3600


def test_what_was_drawn_from_an_iterator_cannot_be_drawn_again() -> None:
    with (
        Answering([BUSY]) as server,
        Client(server.url, retries=QUICK) as client,
        pytest.raises(QueueFull),
    ):
        client.loss("sparse", chunks())
    with Answering([BUSY, GOOD]) as server, Client(server.url, retries=QUICK) as client:
        assert client.loss("sparse", list(chunks())).loss == 0.5


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFound),
        (409, Conflict),
        (500, ServiceFailed),
        (418, Problem),
        (401, Unauthenticated),
    ],
)
def test_what_will_not_pass_is_raised_at_once(status: int, kind: type[Problem]) -> None:
    with (
        Answering([response(status, b"<html>")]) as server,
        Client(server.url, retries=QUICK) as client,
        pytest.raises(kind, match=f"HTTP status {status}") as raised,
    ):
        client.loss("sparse", LOGITS, LABELS)
    assert raised.value.status == status


def test_nobody_is_asked_again_and_then_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    began = time.monotonic()
    with (
        Client(f"http://127.0.0.1:{port}", retries=QUICK) as client,
        pytest.raises(NoAnswer, match=f"nobody answers at http://127.0.0.1:{port}"),
    ):
        client.loss("sparse", chunks())
    assert time.monotonic() - began < PATIENCE_S  # not for as long as an answer is waited for


def test_silence_ends_the_wait_and_is_not_asked_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with (
            Client(url, timeout_s=0.2, retries=QUICK) as client,
            pytest.raises(TimedOut, match="raise timeout_s"),
        ):
            client.ready()
        assert time.monotonic() - began < PATIENCE_S
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


@pytest.mark.parametrize(
    "answer",
    [
        response(200, b"<html>", media_type="text/html"),
        response(200, b"[]"),
        response(200, b"{}"),
        response(302, location="/login"),
        response(200, b"\x00", media_type="application/x-safetensors"),
        response(200, b"\x02" + bytes(7) + b"[]", media_type="application/x-safetensors"),
        response(200, b"\x02" + bytes(7) + b"{}", media_type="application/x-safetensors"),
    ],
)
def test_what_is_no_xent_is_called_so(answer: bytes) -> None:
    with (
        Answering([answer]) as server,
        Client(server.url, retries=QUICK) as client,
        pytest.raises(Unreadable),
    ):
        client.loss("sparse", LOGITS, LABELS)


def test_waits_are_drawn_and_grow_up_to_the_longest() -> None:
    retries = Retries(attempts=6, base_s=1.0, longest_s=4.0)

    def waits() -> Iterator[float]:
        configuration = Configuration("http://x", None, 1.0, retries)
        conversation = converse(Call("GET", "/", Reply.json), configuration, Memory())
        step: object = next(conversation)
        while True:
            try:
                step = conversation.send(Reply(503, {}, b"") if isinstance(step, Send) else None)
            except Unavailable:
                return
            if isinstance(step, Wait):
                yield step.seconds

    drawn = [list(waits()) for _ in range(400)]
    assert {len(each) for each in drawn} == {5}
    longest = [max(each[at] for each in drawn) for at in range(5)]
    assert all(found <= bound for found, bound in zip(longest, (1, 2, 4, 4, 4), strict=True))
    means = [fmean(each[at] for each in drawn) for at in range(5)]
    assert means == pytest.approx([0.5, 1, 2, 2, 2], rel=0.2)


def test_what_may_have_changed_something_is_not_sent_twice() -> None:
    configuration = Configuration("http://x", None, 1.0, QUICK)
    lost = Failed(NoAnswer("lost"), again=True, arrived=True)
    unsent = Failed(NoAnswer("unsent"), again=True, arrived=False)
    call = Call("POST", "/", Reply.json, idempotent=False)
    conversation = converse(call, configuration, Memory())
    next(conversation)
    with pytest.raises(NoAnswer, match="lost"):
        conversation.send(lost)
    conversation = converse(call, configuration, Memory())
    next(conversation)
    assert isinstance(conversation.send(unsent), Wait)


def test_the_key_and_the_url_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = Running(
        data_dir=tmp_path_factory.mktemp("data"), api_keys="secret:evaluate,watcher:metrics"
    )
    url = f"http://127.0.0.1:{server.port}/"
    try:
        monkeypatch.setenv("XENT_URL", url)
        monkeypatch.setenv("XENT_API_KEY", "secret")
        with Client() as client:
            assert client.loss("sparse", LOGITS, LABELS).loss
            assert "secret" not in repr(client.configuration)
        with Client(key="watcher") as other, pytest.raises(Forbidden, match="evaluate"):
            other.loss("sparse", LOGITS, LABELS)
        monkeypatch.delenv("XENT_API_KEY")
        with Client() as nobody, pytest.raises(Unauthenticated, match="send a key"):
            nobody.loss("sparse", LOGITS, LABELS)
    finally:
        server.stop()


@pytest.mark.parametrize(
    "given",
    [
        {"url": "localhost:8000"},
        {"url": "ftp://x"},
        {"url": "http://"},
        {"key": "new\nline"},
        {"timeout_s": 0.0},
    ],
)
def test_what_cannot_work_is_refused_at_once(given: dict[str, object]) -> None:
    with pytest.raises(InvalidConfiguration):
        Client(**given)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfiguration):
        Retries(attempts=0)


def test_a_problem_says_what_its_detail_does_not() -> None:
    body = json.dumps(
        {
            "detail": "two things are wrong",
            "errors": [{"pointer": "/a", "message": "one"}, {"pointer": "", "message": "other"}],
        }
    ).encode()
    with (
        Answering([response(422, body, x_request_id="abc")]) as server,
        Client(server.url) as client,
        pytest.raises(Problem) as raised,
    ):
        client.ready()
    assert str(raised.value) == "two things are wrong; /a: one; the request: other"
    assert raised.value.request_id == "abc"


def test_a_comparison_that_is_none_is_called_so() -> None:
    with (
        Answering([response(200)]) as server,
        Client(server.url) as client,
        pytest.raises(Unreadable, match="no comparison of Xent"),
    ):
        client.compare(LOGITS, LABELS, variants=["sparse"])


def test_a_compressed_answer_is_read_as_it_was_meant() -> None:
    body = gzip.compress(b'{"ready": true}')
    with (
        Answering([response(200, body, content_encoding="gzip")]) as server,
        Client(server.url) as client,
    ):
        assert client.ready() == {"ready": True}
