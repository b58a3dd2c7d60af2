"""A body on its way to a reader, and what is left of it when something ends early."""

import asyncio
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.engine import Capacity, Engine
from service.errors import ClientDisconnected, Unavailable
from service.flow import Flow
from service.wire.arrival import Arrival
from service.wire.body import Incoming
from service.wire.payload import Body
from service.wire.piece import Piece
from service.wire.spool import Spool
from tests.service.harness import PATIENCE_S, until

pytestmark = pytest.mark.anyio


class Sums:
    """A reader that adds up bytes."""

    def __init__(self) -> None:
        self.total = 0
        self.closed = False

    def push(self, piece: Piece, cancelled: Callable[[], bool]) -> None:
        assert not cancelled()
        self.total += int(piece.memory[piece.begin : piece.end].sum(dtype=np.int64))

    def finish(self, cancelled: Callable[[], bool]) -> int:
        assert not cancelled()
        return self.total

    def close(self) -> None:
        self.closed = True


class Straight:
    """A way around messages over a body that is there."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.ended = False

    @property
    def filled(self) -> int:
        return 0

    def begin(self, received: int) -> bytes:
        since, self._body = self._body[received : received + 5], self._body[received + 5 :]
        return since

    async def receive_into(self, room: memoryview) -> int:
        data, self._body = self._body[: len(room)], self._body[len(room) :]
        room[: len(data)] = data
        return len(data)

    def end(self) -> None:
        self.ended = True


def messages(*pieces: bytes, more: bool = False) -> Callable[[], Any]:
    queue: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    for number, piece in enumerate(pieces, 1):
        last = number == len(pieces) and not more
        queue.put_nowait({"type": "http.request", "body": piece, "more_body": not last})
    return queue.get


async def started() -> Engine:
    engine = Engine(Capacity(1, 0, PATIENCE_S, PATIENCE_S), warm_up=lambda: None)
    await engine.start()
    return engine


async def carried(incoming: Incoming, reader: Sums, deadline_s: float = PATIENCE_S) -> int:
    engine = await started()
    try:
        with engine.admit() as permit:
            flow = Flow(incoming, reader, permit=permit, piece_bytes=64, deadline_s=deadline_s)
            return await flow.carry()
    finally:
        engine.stop()


BODY = bytes(range(250)) * 40


@pytest.mark.parametrize("sizes", [(10_000,), (1, 9_999), (63, 65, 64, 9_808), (0, 10_000)])
async def test_every_byte_is_read_once_whatever_the_messages(sizes: tuple[int, ...]) -> None:
    ends = np.cumsum(sizes)
    pieces = [BODY[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    incoming = Incoming(messages(*pieces), {}, limit=20_000, deadline_s=PATIENCE_S)
    reader = Sums()
    assert await carried(incoming, reader) == sum(BODY)
    assert reader.closed


@pytest.mark.parametrize("first", [0, 1, 9_995, 9_999])
async def test_a_way_around_messages_is_taken_after_the_first(first: int) -> None:
    straight = Straight(BODY)
    incoming = Incoming(
        messages(BODY[:first], more=True),
        {"content-length": str(len(BODY))},
        limit=20_000,
        deadline_s=PATIENCE_S,
        direct=straight,
    )
    assert await carried(incoming, Sums()) == sum(BODY)
    assert incoming.complete
    assert straight.ended


async def test_a_body_that_breaks_off_on_the_way_around() -> None:
    incoming = Incoming(
        messages(BODY[:10], more=True),
        {"content-length": str(len(BODY))},
        limit=20_000,
        deadline_s=PATIENCE_S,
        direct=Straight(BODY[:-1]),
    )
    reader = Sums()
    with pytest.raises(ClientDisconnected):
        await carried(incoming, reader)
    await asyncio.to_thread(until, lambda: reader.closed)  # as soon as the worker lets go of it


async def test_an_outcome_is_the_first_one() -> None:
    engine = await started()
    with engine.admit() as permit:
        incoming = Incoming(messages(b""), {}, limit=1, deadline_s=PATIENCE_S)
        flow = Flow(incoming, Sums(), permit=permit, piece_bytes=64, deadline_s=0.5)
        flow._too_late()
        flow._too_late()
        flow._work()
        with pytest.raises(Unavailable, match=r"0\.5 s"):
            await flow.carry()
    engine.stop()


def test_a_worker_may_outlast_the_loop() -> None:
    async def go() -> Flow[int]:
        engine = await started()
        with engine.admit() as permit:
            incoming = Incoming(messages(b""), {}, limit=1, deadline_s=PATIENCE_S)
            flow = Flow(incoming, Sums(), permit=permit, piece_bytes=64, deadline_s=PATIENCE_S)
        engine.stop()
        engine._run_next()  # what was asked for is gone
        return flow

    flow = asyncio.run(go())
    flow._tell(lambda: None)


async def test_an_empty_message_tells_nothing_of_the_sender() -> None:
    incoming = Incoming(
        messages(b"", b"abcd"), {"content-length": "4"}, limit=4, deadline_s=PATIENCE_S
    )
    arrival = Arrival(incoming)
    await arrival.begin(early=True)
    assert arrival.body().tobytes() == b"abcd"


def test_a_disk_without_room(tmp_path: Path) -> None:
    spool = Spool(10, memory=0, folder=tmp_path)
    spool.close()
    spool._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    with pytest.raises(Unavailable, match="No space left on device"):
        spool.append(Body(np.zeros(10, np.uint8)))
    spool.close()
