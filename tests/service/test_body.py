"""Receiving bodies: one buffer, one deadline, and lengths that hold."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, MutableMapping
from typing import Any

import pytest
import torch

from service.errors import BodyTimeout, ClientDisconnected, Malformed, TooLarge
from service.exchange import Exchange
from service.keys import Keys
from service.questions import LossQuestion
from service.schema.models import loss_model
from service.schema.variants import settings_model
from service.settings import Settings
from service.wire.arrival import Arrival, Stalled
from service.wire.body import Incoming
from service.wire.buffer import FIRST_BYTES, Buffer
from service.wire.encodings import identity
from service.wire.formats import JSON, SAFETENSORS, Spoken, answer_format
from tests.service.conftest import Start
from tests.service.harness import PATIENCE_S
from xentcore import VARIANTS, Cancelled

pytestmark = pytest.mark.anyio


async def receive(
    *pieces: bytes,
    headers: Mapping[str, str] | None = None,
    limit: int = 100,
    leave: bool = False,
    deadline_s: float = PATIENCE_S,
) -> bytes:
    async def messages() -> AsyncGenerator[MutableMapping[str, Any], None]:
        for index, piece in enumerate(pieces):
            more = leave or index < len(pieces) - 1
            yield {"type": "http.request", "body": piece, "more_body": more}
        if leave:
            yield {"type": "http.disconnect"}
        await asyncio.sleep(10 * PATIENCE_S)

    stream = messages()
    try:
        incoming = Incoming(stream.__anext__, headers or {}, limit=limit, deadline_s=deadline_s)
        arrival = Arrival(incoming)
        await arrival.begin(early=False)
    finally:
        await stream.aclose()
    return arrival.body().tobytes()


async def test_pieces_become_one_body() -> None:
    assert await receive(b"ab", b"", b"cd", headers={"content-length": "4"}) == b"abcd"
    assert await receive(b"ab", b"cd") == b"abcd"
    assert await receive(b"", headers={"content-length": "0"}) == b""
    long = bytes(range(256)) * 1000
    assert (
        await receive(*[long[at : at + 7777] for at in range(0, len(long), 7777)], limit=len(long))
        == long
    )


@pytest.mark.parametrize("length", ["-1", "+4", "4.0", "x", "", "²", "9" * 30])
async def test_lengths_that_are_none(length: str) -> None:
    with pytest.raises(Malformed, match="content-length"):
        await receive(b"abcd", headers={"content-length": length})


async def test_bodies_other_than_declared() -> None:
    with pytest.raises(Malformed, match="3 bytes, its headers said 4"):
        await receive(b"abc", headers={"content-length": "4"})
    with pytest.raises(TooLarge):
        await receive(b"abcde", headers={"content-length": "101"})
    with pytest.raises(TooLarge, match="more than 100 bytes"):
        await receive(b"a" * 60, b"a" * 41)


async def test_clients_that_leave_or_sleep() -> None:
    with pytest.raises(ClientDisconnected):
        await receive(b"ab", leave=True)
    with pytest.raises(BodyTimeout, match=r"0\.2 s"):
        await receive(headers={"content-length": "1"}, deadline_s=0.2)


async def test_a_buffer_never_grows_beyond_its_limit() -> None:
    buffer = Buffer(limit=3 * FIRST_BYTES)
    for _ in range(3):
        buffer.append(bytes(FIRST_BYTES))
    assert len(buffer._data) == 3 * FIRST_BYTES
    with pytest.raises(TooLarge):
        buffer.append(b"x")
    assert len(Buffer(limit=10)._data) == 10


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("text/html", JSON),
        ("application/x-safetensors", SAFETENSORS),
        ("Application/X-Safetensors; q=0.5, */*", SAFETENSORS),
        ("application/x-safetensors, application/json", JSON),
        ("application/x-safetensors;q=0.9, application/json;q=0.8", SAFETENSORS),
        ("application/x-safetensors;q=0.8;v=1, application/json;v=1", JSON),
        ("application/x-safetensors;q=0", JSON),
        ("application/x-safetensors;q=much", JSON),
    ],
)
async def test_what_is_accepted_decides(accept: str | None, chosen: object) -> None:
    assert answer_format(accept) is chosen


async def test_nothing_is_decoded_for_nobody(start: Start) -> None:
    running = start()
    exchange = Exchange(
        Settings(),
        engine=running.server.engine,
        kernels=running.kernels,
        keys=Keys(()),
        metrics=running.metrics,
        tracking=running.tracking,
        device=torch.device("cpu"),
    )
    variant = VARIANTS["sparse"]
    question = LossQuestion(variant, loss_model(variant, settings_model(variant)))

    async def empty() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    arrival = Arrival(Incoming(empty, {}, limit=10, deadline_s=PATIENCE_S))
    await arrival.begin(early=False)
    work = exchange._work(arrival, question, Spoken(JSON, identity, JSON))
    with pytest.raises(Cancelled):
        work(lambda: True)


class Sender:
    """An ASGI ``receive`` that sends one piece of four bytes, and then what it is told to."""

    def __init__(self) -> None:
        self.then: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.send(b"abcd")

    def send(self, data: bytes, *, more: bool = True) -> None:
        self.then.put_nowait({"type": "http.request", "body": data, "more_body": more})

    async def arrival(self, length: int) -> Arrival:
        headers = {"content-length": str(length)}
        arrival = Arrival(Incoming(self.then.get, headers, limit=100, deadline_s=PATIENCE_S))
        await arrival.begin(early=True)
        return arrival


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sender has stalled, however slow this process is."""
    monkeypatch.setattr("service.wire.arrival.STALL_S", PATIENCE_S)


@pytest.mark.usefixtures("patient")
async def test_a_worker_reads_what_is_there_and_waits_for_the_rest() -> None:
    sender = Sender()
    arrival = await sender.arrival(8)
    arrival.wait(4)
    waiting = asyncio.ensure_future(asyncio.to_thread(arrival.wait, 8))
    await asyncio.sleep(0.02)
    sender.send(b"ef")
    sender.send(b"gh", more=False)
    await arrival.receive()
    assert not waiting.done()
    await arrival.receive()
    await waiting
    assert arrival.body().tobytes() == b"abcdefgh"


@pytest.mark.usefixtures("patient")
async def test_a_worker_is_told_when_the_rest_will_never_come() -> None:
    sender = Sender()
    arrival = await sender.arrival(8)
    waiting = asyncio.ensure_future(asyncio.to_thread(arrival.wait, 8))
    await asyncio.sleep(0.02)
    sender.then.put_nowait({"type": "http.disconnect"})
    with pytest.raises(ClientDisconnected):
        await arrival.receive()
    with pytest.raises(Cancelled):
        await waiting


async def test_a_worker_gives_up_on_a_sender_that_stalls() -> None:
    arrival = await Sender().arrival(8)
    with pytest.raises(Stalled):
        await asyncio.to_thread(arrival.wait, 8)
