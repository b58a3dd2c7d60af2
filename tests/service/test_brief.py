"""Which batches are evaluated on the event loop."""

import asyncio
import threading
from collections.abc import MutableMapping
from typing import Any

import pytest
import torch

from service.brief import (
    BODY_BYTES,
    LOGITS,
    TRACKED_ROWS,
    TooLong,
    check_brief,
    is_at_hand,
    may_be_brief,
)
from service.engine import Capacity, Engine
from service.errors import invalid
from service.questions import CompareQuestion, LossQuestion
from service.schema.document import Document
from service.wire.arrival import Arrival
from service.wire.body import Incoming, Receive
from service.wire.encodings import decoder_for, identity
from service.wire.formats import ARROW, JSON, SAFETENSORS, Source, Spoken
from service.wire.payload import Payload
from tests.service.conftest import Start
from xentcore import VARIANTS

CPU = torch.device("cpu")
LOSS, COMPARE = LossQuestion(VARIANTS["sparse"], Document), CompareQuestion(Document)


def spoken(source: Source, encoding: str | None = None) -> Spoken:
    return Spoken(source, decoder_for(encoding), JSON)


def payload(*shape: int, **document: object) -> Payload:
    return Payload(document, torch.empty(shape), None)


@pytest.mark.parametrize("source", [JSON, SAFETENSORS])
def test_a_small_body_is_little_work_where_it_holds_all_of_it(source: Source) -> None:
    assert spoken(source).decoder is identity
    assert may_be_brief(LOSS, spoken(source), CPU)
    assert not may_be_brief(LOSS, spoken(source, "gzip"), CPU)
    assert not may_be_brief(COMPARE, spoken(source), CPU)
    assert not may_be_brief(LOSS, spoken(source), torch.device("meta"))
    assert not may_be_brief(LOSS, spoken(ARROW), CPU)


@pytest.mark.parametrize("shape", [(32, 10), (LOGITS,), (0, 0), (1, LOGITS)])
def test_small_batches(shape: tuple[int, ...]) -> None:
    check_brief(payload(*shape))


@pytest.mark.parametrize("shape", [(LOGITS + 1,), (0, LOGITS + 1), (65, 64)])
def test_batches_of_many_logits_or_classes_are_none(shape: tuple[int, ...]) -> None:
    with pytest.raises(TooLong):
        check_brief(payload(*shape))


def test_batches_of_many_rows_that_are_tracked_are_none() -> None:
    check_brief(payload(TRACKED_ROWS + 1, 2))
    check_brief(payload(TRACKED_ROWS, 2, track={}))
    with pytest.raises(TooLong):
        check_brief(payload(TRACKED_ROWS + 1, 2, track={}))


async def stays() -> MutableMapping[str, Any]:
    await asyncio.sleep(60)
    raise AssertionError


def sent(body: bytes) -> Receive:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body}

    return receive


@pytest.mark.anyio
async def test_work_is_done_here_when_no_worker_has_any() -> None:
    engine = Engine(Capacity(1, 1, 5, 5), warm_up=lambda: None)
    await engine.start()
    release = threading.Event()
    with engine.admit() as first, engine.admit() as second:

        def alone() -> bool:
            return second.is_alone

        assert alone()
        assert second.run_here(lambda _: threading.current_thread()) is threading.main_thread()
        slow = asyncio.ensure_future(first.run(lambda _: release.wait(10), receive=stays))
        await asyncio.sleep(0)
        assert not alone()
        release.set()
        assert await slow
        assert alone()

        def refuse(_: object) -> None:
            raise invalid("/labels", "are wrong")

        with pytest.raises(type(invalid("", ""))):
            second.run_here(refuse)
    assert engine.admitted == 0
    engine.stop()


@pytest.mark.anyio
async def test_a_body_is_at_hand_once_it_has_come_and_nobody_else_computes() -> None:
    engine = Engine(Capacity(1, 1, 5, 5), warm_up=lambda: None)
    await engine.start()
    release = threading.Event()
    with engine.admit() as permit, engine.admit() as other:
        arrival = Arrival(Incoming(sent(b'{"track": {}}'), {}, limit=100, deadline_s=5))
        assert not is_at_hand(arrival, permit)
        await arrival.begin(early=False)
        assert is_at_hand(arrival, permit)
        slow = asyncio.ensure_future(other.run(lambda _: release.wait(10), receive=stays))
        await asyncio.sleep(0)
        assert not is_at_hand(arrival, permit)
        release.set()
        assert await slow
    long = b" " * (BODY_BYTES + 1)
    with engine.admit() as permit:
        arrival = Arrival(Incoming(sent(long), {}, limit=len(long), deadline_s=5))
        await arrival.begin(early=False)
        assert not is_at_hand(arrival, permit)
    engine.stop()


def test_a_small_body_of_many_logits_goes_to_a_worker_and_has_the_same_answer(start: Start) -> None:
    client = start().client
    rows = [[row, 1, 2] for row in range(8)]
    few = client.post("/loss/sparse", json={"logits": rows, "labels": [0] * 8})
    times = 1 + LOGITS // 24
    many = client.post("/loss/sparse", json={"logits": rows * times, "labels": [0] * (8 * times)})
    assert len(many.request.content) <= BODY_BYTES
    assert many.json()["rows"]["total"] == 8 * times
    assert many.json()["loss"] == pytest.approx(few.json()["loss"], rel=1e-12)
