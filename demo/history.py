"""What the service remembers: a month is posted with ``track``, and asked for again."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final

from demo import month
from demo.client import Answer, Client
from demo.digits import HeldOut
from demo.inquiry import CLASS_NAMES
from demo.report import PLAIN

PROJECT: Final = "digits"
MODEL: Final = "reader"


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the service says about the month.

    Attributes:
        start: the month's first day.
        series: of the model, as listed.
        before: version 2 against version 1 in the first half.
        since: the same in the second half, when version 2 is given blurred digits.
    """

    start: datetime
    series: list[Answer]
    before: Answer
    since: Answer


def remember(client: Client, held_out: HeldOut) -> Remembered:
    """Post the month, and ask about its halves."""
    start = _start(client)
    for tracked in month.month(held_out, start):
        client.by_safetensors(f"/loss/{PLAIN}", tracked.batch, {"track": _track(tracked)})
    selection = {"model": MODEL, "variant": PLAIN}
    listed = client.get(f"/projects/{PROJECT}/series", selection)["series"]
    middle, end = month.middle(start), month.end(start)
    return Remembered(
        start, listed, _compared(client, start, middle), _compared(client, middle, end)
    )


def _start(client: Client) -> datetime:
    """Return the first day of the month: thirty days ago, or where an earlier run put it.

    So that the same batches are the same again whenever the demo runs: the service knows them by
    their names, and counts them once.
    """
    for project in client.get("/projects", {})["projects"]:
        if project["project"] == PROJECT:
            first = datetime.fromisoformat(project["first"])
            return datetime.combine(first.date(), time(), UTC)
    today = datetime.combine(datetime.now(UTC).date(), time(), UTC)
    return today - timedelta(days=month.DAYS)


def _track(tracked: month.Tracked) -> Answer:
    return {
        "project": PROJECT,
        "model": MODEL,
        "model_version": tracked.version,
        "batch_id": tracked.batch_id,
        "event_time": tracked.time.isoformat(),
        "label_schema": {"name": "digits", "classes": CLASS_NAMES},
        "sample_ids": tracked.ids,
    }


def _compared(client: Client, start: datetime, end: datetime) -> Answer:
    baseline, candidate = (f"model_version:{version}" for version in month.VERSIONS)
    return client.get(
        f"/projects/{PROJECT}/compare",
        {
            "model": MODEL,
            "variant": PLAIN,
            "baseline": baseline,
            "candidate": candidate,
            "from": start.isoformat(),
            "to": end.isoformat(),
        },
    )
