"""The history of a project, asked of a service that holds one."""

import gc
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from tests.service.harness import Running
from tests.service.history.histories import START
from tests.xent.answering import Answering, response
from xent import (
    AsyncClient,
    Client,
    InvalidBatch,
    NoAnswer,
    NotFound,
    Project,
    Refused,
    Retries,
    Unreadable,
)
from xent.exports import Format

BEGIN = datetime.fromtimestamp(START / 1e6, UTC)


@pytest.fixture(scope="module")
def asked(remembering: Running) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{remembering.port}") as client:
        yield client


@pytest.fixture
def project(asked: Client) -> Project:
    return asked.project("p")


def test_projects_and_series_are_listed(asked: Client, project: Project) -> None:
    assert asked.projects()["project"].tolist() == ["p"]
    series = project.series()
    assert sorted(series.table["model_version"]) == ["v1", "v2"]
    assert series.revision
    frame = series.to_pandas()
    assert str(frame["first"].dtype).endswith("UTC]")
    assert frame["label_schema.name"].tolist() == ["animals"] * 2


def test_a_metric_over_time_is_a_table_with_times(project: Project) -> None:
    found = project.timeseries("loss.mean", by=["model_version"], step="5m")
    assert (found.metric, found.unit, found.by) == ("loss.mean", "nats", ("model_version",))
    assert found.step_s == 300
    lines = found.lines()
    assert set(lines) == {("v1",), ("v2",)}
    assert len(lines["v1",]) == 6
    frame = found.to_pandas()
    assert frame["time"].min() == BEGIN
    assert (frame["low"] <= frame["value"]).all()
    assert found.to_polars()["time"].min() == BEGIN
    assert found.json()["rows"]


@pytest.mark.parametrize(
    "moment",
    [
        BEGIN + timedelta(minutes=10),
        (BEGIN + timedelta(minutes=10)).isoformat(),
        START // 1000 + 600_000,
    ],
    ids=["datetime", "text", "milliseconds"],
)
def test_a_selection_narrows(moment: datetime | str | int, project: Project) -> None:
    found = project.timeseries(since=moment, model_version="v1", step="1m", classes="top:2")
    assert found.table.height == 20
    assert project.timeseries(since=moment, tags={"region": "eu"}, step="1m").table.height == 0


def test_a_time_without_an_offset_is_nobodys(project: Project) -> None:
    with pytest.raises(InvalidBatch, match="no time zone"):
        project.timeseries(since=datetime(2026, 1, 1))  # noqa: DTZ001  (that is the point)


def test_versions_are_compared(project: Project) -> None:
    found = project.compare("model_version:v1", "model_version:v2", alpha=0.01)
    assert found.comparable
    assert found.verdict in {"worse", "better", "no_difference", "insufficient"}
    assert found.sentence
    low, high = found.interval
    assert low is not None
    assert high is not None
    assert found.difference is not None
    assert low <= found.difference <= high
    assert found.p is not None
    assert found.raw["alpha"] == 0.01
    assert found.to_pandas().shape[0] == 4
    middle = BEGIN + timedelta(minutes=15)
    times = project.compare(baseline_until=middle, candidate_since=middle, model_version="v1")
    assert times.comparable


def test_classes_rows_calibration_and_histogram(project: Project) -> None:
    classes = project.classes(
        model_version="v1",
        classes=["ant", "dog"],
        step="10m",
        reference_until=BEGIN + timedelta(minutes=15),
    )
    assert sorted(classes.table["class"]) == ["ant", "dog"]
    assert "loss_change" in classes.table
    assert classes.raw["map"]["time"]
    hardest = project.hardest(limit=3)
    assert hardest.table.height == 3
    assert hardest.to_pandas()["time"].min() >= BEGIN
    assert project.calibration().table.height == 15
    assert project.histogram(reference_since=BEGIN).table["count"].sum() > 0
    versions = project.options("model_version")
    assert versions.table["value"].tolist() == ["v1", "v2"]


def test_what_has_not_changed_is_not_sent_again(project: Project, remembering: Running) -> None:
    before = project.timeseries(by="variant")
    assert project.timeseries(by="variant") is before
    assert project.timeseries(by="model") is not before
    url = f"http://127.0.0.1:{remembering.port}/projects/p/timeseries"
    tag = httpx2.get(url).headers["etag"]
    assert httpx2.get(url, headers={"if-none-match": tag}).status_code == 304


def test_what_there_is_not_is_said(asked: Client, project: Project) -> None:
    with pytest.raises(NotFound):
        asked.project("a/b?c").series()
    with pytest.raises(Refused, match="metric"):
        project.timeseries("loss.mode")


@pytest.mark.anyio
async def test_whoever_awaits_asks_the_same(remembering: Running, project: Project) -> None:
    async with AsyncClient(f"http://127.0.0.1:{remembering.port}") as client:
        found = await client.project("p").timeseries(by="model_version")
        assert found.json() == project.timeseries(by="model_version").json()
        assert (await client.projects()).height == 1


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_all_batches_are_exported(kind: Format, project: Project, tmp_path: Path) -> None:
    found = project.export(kind, model_version="v1")
    frame = found.to_pandas()
    assert set(frame["model_version"]) == {"v1"}
    assert len(frame) == project.series(model_version="v1").table["batches"].sum()
    found.save(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == found.data
    path = tmp_path / f"all.{kind}"
    assert project.download(path, model_version="v1") == len(found.data)
    assert path.read_bytes() == found.data
    held = io.BytesIO(b"before")
    held.seek(6)
    project.download(held, kind, model_version="v1")
    assert held.getvalue() == b"before" + found.data
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name, "saved"]


CUT = b"HTTP/1.1 200 X\r\ncontent-length: 9\r\ncontent-type: text/csv\r\n\r\nhalf"
WHOLE = response(200, b"the whole", media_type="text/csv")


class Pipe(io.RawIOBase):
    """What cannot take back what was written."""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return len(data)  # type: ignore[arg-type]


def test_a_download_that_broke_off_begins_again(tmp_path: Path) -> None:
    quick = Retries(attempts=2, base_s=0.001)
    path = tmp_path / "all.csv"
    with Answering([CUT, WHOLE], hang_up_after=CUT) as server:
        with Client(server.url, retries=quick) as client:
            assert client.project("p").download(path) == 9
        assert path.read_bytes() == b"the whole"
    held = io.BytesIO()
    with (
        Answering([CUT, WHOLE], hang_up_after=CUT) as server,
        Client(server.url, retries=quick) as client,
    ):
        client.project("p").download(held)
    assert held.getvalue() == b"the whole"
    with (
        Answering([CUT, WHOLE], hang_up_after=CUT) as server,
        Client(server.url, retries=quick) as client,
        pytest.raises(Unreadable, match="cut off"),
    ):
        client.project("p").download(Pipe())  # type: ignore[arg-type]


def test_a_download_that_failed_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_bytes(b"yesterday's")
    once = Retries(attempts=1)
    with (
        Answering([CUT], hang_up_after=CUT) as server,
        Client(server.url, retries=once) as client,
        pytest.raises(NoAnswer),
    ):
        client.project("p").download(path)
    gc.collect()
    assert [each.name for each in tmp_path.iterdir()] == ["all.csv"]
    assert path.read_bytes() == b"yesterday's"


def test_notes_are_written_down(project: Project) -> None:
    (series, *_) = project.series().table["series"].tolist()
    note = project.note("a new camera", time=BEGIN + timedelta(minutes=3), series=series)
    assert note["kind"] == "note"
    project.note("seen")
    found = project.annotations(until=BEGIN + timedelta(days=1))
    assert "a new camera" in found.table["text"]
    assert {"version", "note"} <= set(found.table["kind"])
    assert found.to_pandas()["time"].max() == BEGIN + timedelta(minutes=3)
