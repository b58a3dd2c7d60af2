"""The service killed again and again while batches come: nothing lost, nothing counted twice."""

import http.client
import json
import os
import random
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import servers
from benchmarks.bodies import JSON
from benchmarks.harness import Row, Sample, Table

KILLS: Final = 200
QUICK_KILLS: Final = 3
CLIENTS: Final = 8
SEED: Final = 0
LIVES_S: Final = (0.05, 0.5)
"""A service is killed this long after it was ready, evenly spread."""
STORED: Final = "history.sqlite3"
PROJECT: Final = "kills"
AGO_S: Final = 7 * 86_400
"""The first batches are of so long ago; what is older than the service keeps is refused."""
CLASSES: Final = 4
OK: Final = 200
PASSING: Final = (429, 503)
PAUSE_S: Final = 0.02
TIMEOUT_S: Final = 30.0
MOST_S: Final = 1500.0
CLIENT_S: Final = 60.0


class Sent:
    """What clients know.

    Attributes:
        acknowledged: rows of batches that were answered, by the batch's name.
        replayed: answers that say an earlier try had been counted.
        refusal: what the service said that it should not have said.
    """

    def __init__(self) -> None:
        self.acknowledged: dict[str, int] = {}
        self.replayed = 0
        self.refusal = ""
        self._lock = threading.Lock()

    def acknowledge(self, name: str, rows: int, *, replayed: bool) -> None:
        """Note an answer."""
        with self._lock:
            self.acknowledged[name] = rows
            self.replayed += replayed


@dataclass(frozen=True, slots=True)
class Found:
    """What the service says in the end, and SQLite of its file."""

    batches: dict[str, int]
    series_batches: int
    series_rows: int
    charted_rows: int
    sound: bool


def run(*, quick: bool) -> Table:
    """Kill, start again, and count."""
    kills = QUICK_KILLS if quick else KILLS
    sent = Sent()
    with tempfile.TemporaryDirectory(prefix="xent-bench-") as folder:
        done = _kill(kills, sent, Path(folder))
        found = _found(Path(folder))
    lost = sent.acknowledged.keys() - found.batches.keys()
    strange = found.batches.keys() - sent.acknowledged.keys()
    twice = sum(times - 1 for times in found.batches.values())
    rows = sum(sent.acknowledged.values())
    wrong = abs(found.series_rows - rows) + abs(found.charted_rows - rows)
    wrong += abs(found.series_batches - len(sent.acknowledged))
    none = ("<=", 0.0)
    return Table(
        f"kill -9 under load, {CLIENTS} clients",
        "count",
        (
            Row("kills", Sample((float(done),)), None, (">=", float(kills)), "it took too long"),
            Row("batches acknowledged", Sample((float(len(sent.acknowledged)),))),
            Row("acknowledged and lost", Sample((float(len(lost)),)), None, none),
            Row("counted twice", Sample((float(twice),)), None, none),
            Row("there, yet never acknowledged", Sample((float(len(strange)),)), None, none),
            Row("rows and batches that the API counts otherwise", Sample((wrong,)), None, none),
            Row("files that SQLite finds damaged", Sample((float(not found.sound),)), None, none),
        ),
        (
            f"Every batch is sent again until it is answered; {sent.replayed} had been counted "
            "when their connection broke before the answer. "
            f"A service lives {LIVES_S[0]:g} to {LIVES_S[1]:g} s after it is ready.",
        ),
    )


def _kill(kills: int, sent: Sent, folder: Path) -> int:
    """Start and kill services while clients send; return how many were killed."""
    chance = random.Random(SEED)  # noqa: S311  (when to kill is no secret)
    port = servers.free_port()
    stop = threading.Event()
    clients = [
        threading.Thread(target=_client, args=(number, port, sent, stop), daemon=True)
        for number in range(CLIENTS)
    ]
    last_s = time.monotonic() + MOST_S
    done = 0
    try:
        while done < kills and time.monotonic() < last_s:
            with servers.xent(data_dir=folder, port=port) as service:
                if not done:
                    for client in clients:
                        client.start()
                time.sleep(chance.uniform(*LIVES_S))
                os.kill(service.process_id, signal.SIGKILL)
                done += 1
    finally:
        stop.set()
    with servers.xent(data_dir=folder, port=port):  # what was not answered is sent until it is
        for client in clients:
            client.join(CLIENT_S)
    if sent.refusal:
        raise RuntimeError(f"a batch was refused: {sent.refusal}")
    return done


def _client(number: int, port: int, sent: Sent, stop: threading.Event) -> None:
    """Send one batch after the other; each until it is answered, whatever happens."""
    batches = _batches(number)
    batch = next(batches)
    while not sent.refusal:
        service = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        # Killed meanwhile, or not there yet: the same batch comes again.
        with closing(service), suppress(OSError, http.client.HTTPException):
            while not sent.refusal:
                if not _send(service, batch, sent):
                    time.sleep(PAUSE_S)
                    continue
                if stop.is_set():
                    return
                batch = next(batches)
        time.sleep(PAUSE_S)


def _send(
    connection: http.client.HTTPConnection, batch: tuple[str, int, bytes], sent: Sent
) -> bool:
    """Send a batch once; tell whether it was acknowledged."""
    name, rows, body = batch
    connection.request("POST", "/loss/sparse", body, {"content-type": JSON})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status == OK:
        sent.acknowledge(name, rows, replayed=json.loads(text)["track"]["status"] == "replayed")
        return True
    if answer.status not in PASSING:
        sent.refusal = text.decode()
    return False


def _batches(number: int) -> Iterator[tuple[str, int, bytes]]:
    """Yield the names, rows and bodies of a client's batches."""
    chance = random.Random(number)  # noqa: S311
    for place in range(1_000_000):
        name = f"{number}-{place}"
        rows = chance.randint(1, 16)
        document = {
            "logits": [[chance.gauss(0, 3) for _ in range(CLASSES)] for _ in range(rows)],
            "labels": [chance.randrange(CLASSES) for _ in range(rows)],
            "track": {
                "project": PROJECT,
                "model": "model",
                "model_version": str(number),
                "batch_id": name,
                "event_time": _time(place),
                "label_schema": {"name": "four", "classes": ["a", "b", "c", "d"]},
            },
        }
        yield name, rows, json.dumps(document).encode()


def _time(place: int) -> str:
    at = time.gmtime(time.time() - AGO_S + 10 * place)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", at)


def _found(folder: Path) -> Found:
    with servers.xent(data_dir=folder) as service:
        series = _get(service.port, f"/projects/{PROJECT}/series")["series"]
        charted = _get(service.port, f"/projects/{PROJECT}/timeseries?metric=rows&step=1h")["rows"]
        lines = _text(service.port, f"/projects/{PROJECT}/export?format=jsonl").splitlines()
    batches: dict[str, int] = {}
    for line in lines:
        name = json.loads(line)["batch_id"]
        batches[name] = batches.get(name, 0) + 1
    with closing(sqlite3.connect(folder / STORED)) as database:
        (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
    return Found(
        batches,
        sum(each["batches"] for each in series),
        sum(each["rows"] for each in series),
        sum(each["value"] or 0 for each in charted),
        verdict == "ok",
    )


def _get(port: int, path: str) -> Any:  # noqa: ANN401  (a document)
    return json.loads(_text(port, path))


def _text(port: int, path: str) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
    if answer.status != OK:
        raise RuntimeError(f"GET {path}: {answer.status} {text[:200]}")
    return text
