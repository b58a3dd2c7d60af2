"""A process that records from several threads and tells what was answered, until it is killed."""

import asyncio
import os
import random
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

from service.errors import HistoryUnavailable, Outdated
from service.history.database import Database
from service.history.entries import Correction
from service.history.recorder import Recorder
from tests.service.history.samples import KEY, NOON, entry, sums, waiting
from tests.service.history.starting import LIMITS, logger

THREADS = 4
CORRECTED = 1_000_000  # what is added to the number of a batch for its sums with its labels


def record_until_killed(url: str, seed: int, numbers: int, told: Connection) -> None:
    """Record batches of ``numbers``, in any order and again and again.

    Some wait for their labels and get them. For each answer a line is written: the number of the
    batch, and ``recorded`` or ``corrected``.
    """
    recorder = Recorder(Database(url), LIMITS, log=logger([]), clock=lambda: NOON)
    asyncio.run(recorder.start())
    _tell(told, 0, "started")
    threads = [
        threading.Thread(target=asyncio.run, args=(_record(recorder, seed + at, numbers, told),))
        for at in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def gets_labels(number: int) -> bool:
    """Tell whether a batch is recorded without labels, which come later."""
    return number % 4 == 0


async def _record(recorder: Recorder, seed: int, numbers: int, told: Connection) -> None:
    draw = random.Random(seed)  # noqa: S311
    while True:
        number = draw.randrange(numbers)
        with suppress(HistoryUnavailable, Outdated):  # what is refused is not told
            kept = waiting() if gets_labels(number) else None
            await recorder.record([entry(number, kept=kept)])
            _tell(told, number, "recorded")
            if kept is not None:
                await _correct(recorder, number)
                _tell(told, number, "corrected")


async def _correct(recorder: Recorder, number: int) -> None:
    name = (KEY.project, KEY.model, KEY.model_version, entry(number).batch_id)
    (found,) = await recorder.kept(*name)
    with_labels = sums(CORRECTED + number)
    await recorder.correct(
        [Correction(found.batch_key, with_labels, b"labels", False, revision=found.revision)]
    )


def _tell(told: Connection, number: int, what: str) -> None:
    os.write(told.fileno(), f"{number} {what}\n".encode())  # short enough to be written whole
