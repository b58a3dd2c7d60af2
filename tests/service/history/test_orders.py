"""The same batches in another order: the same history, byte for byte, as the API tells it."""

import re
from pathlib import Path
from typing import Any

import pytest

from service.history import times
from tests.service.harness import Running
from tests.service.history.conftest import MakeUrl
from tests.service.history.tracked import NAMES, NOON_US, checked, document

QUESTIONS = (
    "series",
    "timeseries?metric=loss.mean&by=model_version&step=1m",
    "timeseries?metric=gradient_norm.mean&by=class&model_version=1&step=1h",
    "classes?model_version=1",
    "hardest",
    "calibration?model_version=1",
    "histogram?model_version=2",
    "annotations",
    "timeseries?metric=loss.mean&by=label_schema&step=1m",
    "options/label_schema",
    "export?format=jsonl",
    "compare?baseline=model_version:1&candidate=model_version:2&label_schema=animals",
)

RECEIVED = re.compile(rb'"received":"[^"]*",')
Told = dict[str, bytes]


def batches() -> list[dict[str, Any]]:
    """Return requests of three versions; one series is tagged.

    One has its classes in another order under another name, one under the same name. Batches of one
    series lie in one minute, two of them at the same moment.
    """
    made = []
    for number in range(9):
        at = NOON_US + (number // 2) * 7 * times.SECOND
        made.append(
            {
                **document(
                    f"batch-{number}",
                    model_version="1" if number < 5 else "2" if number < 8 else "3",
                    event_time=times.text(at),
                    tags={"site": "north"} if number in (3, 4) else None,
                    sample_ids=[f"{number}-{row}" for row in range(60)],
                ),
                "sample_weights": [1 / (1 + number + row) for row in range(60)],
            }
        )
    made[-2]["track"]["label_schema"] = {"name": "beasts", "classes": NAMES[::-1]}
    made[-1]["track"]["label_schema"] = {"name": "animals", "classes": NAMES[::-1]}
    return made


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_any_order_gives_the_same_bytes(make_url: MakeUrl, tmp_path: Path) -> None:
    whole = batches()
    told = [
        tell(order, tmp_path / str(number), make_url())
        for number, order in enumerate([whole, whole[::-1], whole[1::2] + whole[::2]])
    ]
    marks, answers = told[0]
    assert len(set(marks.values())) == 5
    assert b"classes of label schema animals changed" in answers["annotations"]
    for others, theirs in told[1:]:
        assert others == marks
        for asked in QUESTIONS:
            assert theirs[asked] == answers[asked], asked


def tell(order: list[dict[str, Any]], folder: Path, url: str) -> tuple[dict[str, str], Told]:
    """Post requests in this order; return the series of each batch, and what is answered then."""
    running = Running(data_dir=folder, database_url=url)
    try:
        marks = {}
        for request in order:
            answer = checked(running.client.post("/loss/sparse", json=request), 200)
            marks[request["track"]["batch_id"]] = answer["track"]["series"]
        answers = {}
        for asked in QUESTIONS:
            found = running.client.get(f"/projects/zoo/{asked}")
            assert found.status_code == 200, found.text
            # The one thing that tells of arrival: when each batch was received.
            answers[asked] = RECEIVED.sub(b"", found.content)
        return marks, answers
    finally:
        running.stop()
