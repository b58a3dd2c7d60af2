"""Admission, deadlines, cancellation, dead workers."""

import asyncio
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
import torch

from service.engine import Capacity, Engine, Running
from service.errors import ClientDisconnected, QueueFull, Unavailable
from tests.service.harness import PATIENCE_S, until
from xentcore import Cancelled

pytestmark = pytest.mark.anyio

Cancel = Callable[[], bool]


def engine(
    workers: int = 1, queue: int = 0, deadline_s: float = PATIENCE_S, grace_s: float = PATIENCE_S
) -> Engine:
    return Engine(Capacity(workers, queue, deadline_s, grace_s), warm_up=lambda: None)


async def stays() -> MutableMapping[str, Any]:
    await asyncio.sleep(10 * PATIENCE_S)
    raise AssertionError


async def leaves() -> MutableMapping[str, Any]:
    return {"type": "http.disconnect"}


def until_cancelled(cancelled: Cancel) -> None:
    while not cancelled():
        time.sleep(0.001)
    raise Cancelled("given up")


async def settled(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(until, condition)


async def test_refuses_until_started_and_after_draining() -> None:
    subject = engine()
    with pytest.raises(Unavailable, match="starting"):
        subject.admit()
    assert subject.refusal() == "the service is starting"
    await subject.start()
    assert subject.refusal() is None
    with subject.admit() as permit:
        assert await permit.run(lambda _: 7, receive=stays) == 7
    subject.drain()
    with pytest.raises(Unavailable, match="draining"):
        subject.admit()
    subject.stop()


async def test_draining_while_starting_stays_draining() -> None:
    subject = engine()
    subject.drain()
    await subject.start()
    assert subject.state == "draining"
    subject.stop()


async def test_what_was_admitted_before_a_drain_goes_on() -> None:
    subject = engine()
    await subject.start()
    with subject.admit() as permit:
        subject.drain()
        assert await permit.run(lambda _: 7, receive=stays) == 7
    subject.stop()


async def test_a_failed_warm_up_is_a_failed_start() -> None:
    def fail() -> None:
        raise RuntimeError("no such device")

    subject = Engine(Capacity(1, 0, 1, 1), warm_up=fail)
    with pytest.raises(RuntimeError, match="no such device"):
        await subject.start()
    assert subject.refusal() == "the service is failed"
    subject.stop()


async def test_places_are_counted_and_given_back() -> None:
    subject = engine(workers=1, queue=1)
    await subject.start()
    with subject.admit(), subject.admit():
        with pytest.raises(QueueFull) as caught:
            subject.admit()
        assert caught.value.retry_after_s == 1
        assert (subject.admitted, subject.waiting) == (2, 2)
    assert subject.admitted == 0
    subject.stop()


async def test_retry_after_grows_with_what_waits() -> None:
    subject = engine(workers=1, queue=40)
    await subject.start()
    subject._duration_s = 2.0
    permits = [subject.admit() for _ in range(41)]
    with pytest.raises(QueueFull) as caught:
        subject.admit()
    assert caught.value.retry_after_s == 82
    assert len(permits) == 41
    subject.stop()


async def test_a_deadline_gives_up_and_keeps_the_place_until_the_worker_is_free() -> None:
    subject = engine(deadline_s=0.05, grace_s=0)
    await subject.start()
    release = threading.Event()
    with pytest.raises(Unavailable, match="did not end within"), subject.admit() as permit:
        await permit.run(lambda _: release.wait(PATIENCE_S), receive=stays)
    assert (subject.admitted, subject.busy) == (1, 1)
    await settled(lambda: subject.dead)
    assert subject.refusal() == "1 of 1 workers do not come back"
    release.set()
    await settled(lambda: subject.admitted == 0)
    assert subject.refusal() is None
    subject.stop()


async def test_work_is_cancelled_when_the_client_leaves() -> None:
    subject = engine()
    await subject.start()
    with pytest.raises(ClientDisconnected), subject.admit() as permit:
        await permit.run(until_cancelled, receive=leaves)
    await settled(lambda: subject.admitted == 0)
    subject.stop()


async def test_work_that_waits_is_never_begun_when_the_client_leaves() -> None:
    subject = engine(queue=1)
    await subject.start()
    release = threading.Event()
    begun: list[int] = []
    with subject.admit() as first:
        slow = asyncio.ensure_future(first.run(lambda _: release.wait(PATIENCE_S), receive=stays))
        await settled(lambda: subject.busy)
        with pytest.raises(ClientDisconnected), subject.admit() as second:
            await second.run(lambda _: begun.append(1), receive=leaves)
        await settled(lambda: subject.admitted == 1)
        release.set()
        assert await slow
    assert begun == []
    subject.stop()


async def test_errors_come_back_without_frames_and_bugs_with_them() -> None:
    subject = engine()
    await subject.start()

    def expected(_: Cancel) -> None:
        raise Unavailable("known")

    def bug(_: Cancel) -> None:
        raise ZeroDivisionError

    with pytest.raises(Unavailable, match="known"), subject.admit() as permit:
        await permit.run(expected, receive=stays)
    with pytest.raises(ZeroDivisionError) as caught, subject.admit() as permit:
        await permit.run(bug, receive=stays)
    assert caught.traceback[-1].name == "bug"
    subject.stop()


async def test_memory_that_is_not_there_is_an_expected_error() -> None:
    subject = engine()
    await subject.start()
    with pytest.raises(MemoryError), subject.admit() as permit:
        await permit.run(lambda _: torch.empty(1 << 46), receive=stays)

    def bug(_: Cancel) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"), subject.admit() as permit:
        await permit.run(bug, receive=stays)
    subject.stop()


async def test_stopping_gives_up_on_what_runs() -> None:
    subject = engine()
    await subject.start()
    with subject.admit() as permit:
        task = asyncio.ensure_future(permit.run(until_cancelled, receive=stays))
        await settled(lambda: subject.busy)
        subject.stop()
        with pytest.raises(Cancelled):
            await task
    with pytest.raises(Unavailable, match="stopped"):
        subject.submit(lambda _: None, lambda _: None)


async def test_nothing_runs_before_the_start() -> None:
    subject = engine()
    with pytest.raises(Unavailable, match="not started"):
        subject.submit(lambda _: None, lambda _: None)
    subject.stop()


def test_work_may_end_after_its_loop() -> None:
    release = threading.Event()
    ended: list[int] = []

    async def go() -> tuple[Engine, Running[bool]]:
        subject = engine()
        await subject.start()
        return subject, subject.submit(
            lambda _: release.wait(PATIENCE_S), lambda _: ended.append(1)
        )

    subject, running = asyncio.run(go())
    release.set()
    assert running._future.result(PATIENCE_S)
    subject.stop()
    assert ended == []
