"""Who waits is told: threads, tasks, and of those all on one loop at once."""

import asyncio
from concurrent.futures import Future
from unittest import mock

import pytest

from service.history.waiters import Failure, Waiter, still_waits, tell


def test_all_on_a_loop_are_told_by_one_wake() -> None:
    loop = asyncio.new_event_loop()
    waiting = [loop.create_future() for _ in range(4)]
    thread: Future[str] = Future()
    everyone: list[Waiter] = [*waiting, thread]
    waiting[1].cancel()  # it gave up
    assert [still_waits(each) for each in everyone] == [True, False, True, True, True]
    error = ValueError("refused")
    outcomes = ["a", "b", Failure(error), "d"]
    waiting[3].cancel()  # it gave up when its work was done already
    wake = loop.call_soon_threadsafe
    with mock.patch.object(loop, "call_soon_threadsafe", wraps=wake) as wakes:
        tell(zip(everyone, [*outcomes, "e"], strict=True))
    assert wakes.call_count == 1
    assert thread.result(timeout=0) == "e"
    assert not waiting[0].done()  # the loop has not run yet
    assert loop.run_until_complete(waiting[0]) == "a"
    with pytest.raises(ValueError, match="refused"):
        loop.run_until_complete(waiting[2])
    loop.close()


def test_a_thread_gives_up_before_its_work_begins_or_never() -> None:
    early: Future[str] = Future()
    assert early.cancel()
    assert not still_waits(early)
    late: Future[str] = Future()
    assert still_waits(late)
    assert not late.cancel()


def test_a_loop_that_is_closed_keeps_nobody_else_waiting() -> None:
    gone, loop = asyncio.new_event_loop(), asyncio.new_event_loop()
    lost, waiting = gone.create_future(), loop.create_future()
    gone.close()
    tell([(lost, 1), (waiting, 2)])
    assert loop.run_until_complete(waiting) == 2
    loop.close()
