"""Metrics over time, against the rows they are made of."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from service.errors import InvalidDocument
from service.history import times, timeseries
from service.history.database import Database
from service.history.metrics import METRICS
from tests.service.history.asked import Row, rows_of, timeline
from tests.service.history.conftest import Filled
from tests.service.history.histories import (
    NAMES,
    START,
    Batch,
    Rows,
    animals,
    history,
    insert_batches,
    simulated,
)

BATCHES = history(7, minutes=75, rows=30)


def quantile(share: float) -> Callable[[Rows], float]:
    return lambda rows: float(np.sort(rows.loss)[int(np.ceil(share * len(rows.loss))) - 1])


def ece(rows: Rows) -> float:
    which = np.ceil(rows.confidence * 15)
    gaps = [
        abs(rows.hit[which == each].sum() - rows.confidence[which == each].sum())
        for each in range(1, 16)
    ]
    return float(sum(gaps) / len(rows.loss))


ORACLES: dict[str, Callable[[Rows], float]] = {
    "loss.mean": lambda rows: float(np.average(rows.loss, weights=rows.weight)),
    "loss.p50": quantile(0.5),
    "loss.p90": quantile(0.9),
    "loss.p99": quantile(0.99),
    "loss.max": lambda rows: float(rows.loss.max()),
    "recall": lambda rows: float(rows.hit.mean()),
    "ece": ece,
    "brier": lambda rows: float(np.mean((1 - rows.confidence) ** 2)),
    "gradient_norm.mean": lambda rows: float(rows.norm.mean()),
    "normalised_entropy": lambda rows: float(
        (rows.loss * rows.weight).sum() / (2 * rows.weight.sum())
    ),
    "nonfinite_rate": lambda rows: rows.nonfinite / (len(rows.loss) + rows.ignored),
    "label_ratio": lambda rows: len(rows.loss) / (len(rows.loss) + rows.ignored),
    "rows": lambda rows: float(len(rows.loss) + rows.ignored),
}


@pytest.fixture(scope="module")
def recorded(filled: Filled) -> Database:
    return filled(BATCHES)


def within(row: Row, step_s: int) -> list[Batch]:
    begin = times.parse(row["time"])
    return [
        each
        for each in BATCHES
        if each.version == row["model_version"]
        and begin <= each.time < begin + step_s * times.SECOND
    ]


@pytest.mark.parametrize("step", ["1m", "20m", "1d"])
def test_every_metric_is_that_of_its_rows(recorded: Database, step: str) -> None:
    assert set(ORACLES) == set(METRICS)
    for metric, oracle in ORACLES.items():
        answer = timeline(recorded, metric=metric, by="model_version", step=step)
        assert answer["unit"] == METRICS[metric].unit
        assert len(answer["rows"]) == {"1m": 150, "20m": 8, "1d": 2}[step]
        tolerance = 0.0101 if metric.startswith("loss.p") else 1e-12
        for row in answer["rows"]:
            expected = oracle(rows_of(within(row, answer["step_s"])))
            assert row["value"] == pytest.approx(expected, rel=tolerance), (metric, row)
            if row["low"] is not None:
                assert row["low"] <= row["value"] * 1.01
            if row["high"] is not None:
                assert row["high"] >= row["value"] * 0.99


@pytest.mark.parametrize("metric", ["loss.mean", "recall", "gradient_norm.mean", "rows"])
def test_classes_are_those_of_their_rows(recorded: Database, metric: str) -> None:
    answer = timeline(recorded, metric=metric, by="class,model_version", step="15m")
    assert answer["by"] == ["class", "model_version"]
    assert len(answer["rows"]) == 5 * len(NAMES) * 2
    for row in answer["rows"]:
        rows = rows_of(within(row, answer["step_s"]))
        own = rows.label == NAMES.index(row["class"])
        part = replace(rows.take(own), ignored=0)
        assert row["value"] == pytest.approx(ORACLES[metric](part), rel=1e-12)
        assert row["rows"] == own.sum()


def test_the_interval_of_a_mean_is_that_of_its_rows(recorded: Database) -> None:
    (row,) = timeline(recorded, model_version="v1", step="1d")["rows"]
    rows = rows_of([each for each in BATCHES if each.version == "v1"])
    x, w, n = rows.loss * rows.weight, rows.weight, len(rows.loss)
    ratio = x.sum() / w.sum()
    error = np.sqrt(n / (n - 1) * ((x - ratio * w) ** 2).sum()) / w.sum()
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * error, rel=1e-3)
    assert (row["high"] + row["low"]) / 2 == pytest.approx(ratio)


def test_replicated_rows_have_the_bootstraps_interval(database: Database) -> None:
    random = np.random.default_rng(0)
    few = replace(simulated(random, 40), ignored=0)
    # Ten rows each that are the same; row r of a batch is of cluster r % 40.
    alike = few.take(np.tile(np.arange(40), 10))
    insert_batches(database, [Batch("b", START, alike)])
    (plain,) = timeline(database)["rows"]
    insert_batches(database, [Batch("c", START, alike, version="v2", clusters=40)])
    (clustered,) = timeline(database, model_version="v2")["rows"]
    assert clustered["value"] == pytest.approx(plain["value"])
    assert clustered["high"] - clustered["low"] > 2 * (plain["high"] - plain["low"])
    # Where some rows were not replicated, replicates say nothing of the whole.
    insert_batches(database, [Batch("d", START, alike, version="v2")])
    (mixed,) = timeline(database, model_version="v2")["rows"]
    assert mixed["high"] - mixed["low"] < clustered["high"] - clustered["low"]


@pytest.mark.slow
def test_a_spike_stays_in_sight(database: Database) -> None:
    """One batch in 10 000 minutes: in whatever bucket it falls, the maximum shows it."""
    random = np.random.default_rng(0)
    quiet = simulated(random, 3)
    loud = replace(quiet, loss=np.array([0.1, 900.0, 0.1]))
    batches = [
        Batch(f"b{number}", START + number * times.MINUTE, quiet) for number in range(0, 10_000, 7)
    ]
    batches.append(Batch("loud", START + 4321 * times.MINUTE, loud))
    insert_batches(database, batches)
    for points in ("5", "100", "300"):
        rows = timeline(database, metric="loss.max", max_points=points)["rows"]
        assert len(rows) <= int(points)
        assert max(row["value"] for row in rows) == 900.0


def at(minute: int, rows: Rows, version: str = "v1") -> Batch:
    return Batch(f"{version}/{minute}", START + minute * times.MINUTE, rows, version)


def test_statuses_say_what_a_value_lacks(database: Database) -> None:
    random = np.random.default_rng(0)
    full, few = simulated(random, 20), simulated(random, 4)
    broken = replace(full, nonfinite=2)
    nobody = replace(full.take(np.zeros(0, np.int64)), ignored=9)
    insert_batches(
        database,
        [
            at(0, full),
            at(1, few),
            at(2, nobody),
            at(4, broken),
            replace(at(5, full), pending=True),
            replace(at(6, few), pending=True),
            at(7, full),
            at(1, full, "v2"),
            at(3, full, "v2"),
        ],
    )
    answer = timeline(database, by="model_version", step="1m", min_rows="5")
    found = {
        (row["model_version"], times.parse(row["time"]) // times.MINUTE % 60): row
        for row in answer["rows"]
    }
    assert {key: row["status"] for key, row in found.items()} == {
        ("v1", 0): "ok",
        ("v1", 1): "low_n",
        ("v1", 2): "empty",
        ("v1", 3): "empty",
        ("v1", 4): "nonfinite",
        ("v1", 5): "partial",
        ("v1", 6): "low_n",
        ("v1", 7): "partial",
        # Its data ended, the project's went on: what it has is over.
        ("v2", 1): "ok",
        ("v2", 2): "empty",
        ("v2", 3): "ok",
    }
    assert found["v1", 1]["value"] is not None
    assert found["v1", 1]["rows"] == 4
    for empty in (found["v1", 2], found["v1", 3]):
        assert (empty["value"], empty["low"], empty["high"], empty["rows"]) == (None, None, None, 0)
    order = [(row["time"], row["model_version"]) for row in answer["rows"]]
    assert order == sorted(order)


def test_a_bucket_that_the_selection_cuts_is_partial(database: Database) -> None:
    random = np.random.default_rng(0)
    insert_batches(database, [at(minute, simulated(random, 9)) for minute in range(40)])

    def statuses(**query: str) -> list[str]:
        return [row["status"] for row in timeline(database, step="10m", **query)["rows"]]

    assert statuses() == ["ok", "ok", "ok", "partial"]
    assert statuses(from_="2026-01-01T00:05:00Z") == ["partial", "ok", "ok", "partial"]
    assert statuses(to="2026-01-01T00:20:00Z") == ["ok", "ok"]
    assert statuses(to="2026-01-01T00:25:00Z") == ["ok", "ok", "partial"]
    # From before all there is, nothing is cut.
    assert statuses(from_="2025-01-01T00:00:00Z", to="2026-01-01T00:10:00Z") == ["ok"]


def test_units_are_not_mixed(database: Database) -> None:
    random = np.random.default_rng(0)
    rows = simulated(random, 9)
    insert_batches(
        database,
        [
            at(0, rows),
            replace(at(0, rows), variant="focal", settings='{"gamma": 1}'),
            replace(at(1, rows), variant="focal", settings='{"gamma": 2}'),
        ],
    )
    with pytest.raises(InvalidDocument, match=r"add variant=\.\.\. or by=variant; .*focal, sparse"):
        timeline(database)
    with pytest.raises(InvalidDocument, match=r"add settings=\.\.\. or by=settings"):
        timeline(database, variant="focal")
    with pytest.raises(InvalidDocument, match="by=settings"):
        timeline(database, by="variant", metric="recall")
    assert len(timeline(database, by="variant,settings", step="1m")["rows"]) == 3
    # In this time there is one of them only.
    assert len(timeline(database, from_="2026-01-01T00:01:00Z")["rows"]) == 1
    total = sum(row["value"] for row in timeline(database, metric="rows")["rows"])
    assert total == 3 * (9 + rows.ignored)


def test_groups_are_named_by_what_was_asked(database: Database) -> None:
    random = np.random.default_rng(0)
    rows = simulated(random, 9)
    insert_batches(
        database,
        [
            replace(at(0, rows), tags={"site": "oslo"}),
            replace(at(0, rows, "v2"), tags={"site": "rome"}),
            at(0, rows, "v3"),
            replace(at(0, rows, "v4"), schema_version=2, names=NAMES[::-1]),
        ],
    )
    found = timeline(database, by="tag.site,label_schema")["rows"]
    usual, turned = animals(*NAMES), animals(*NAMES[::-1])
    assert [(row["tag.site"], row["label_schema"]) for row in found] == [
        *sorted([(None, usual), (None, turned)]),
        ("oslo", usual),
        ("rome", usual),
    ]
    # A class is its name, wherever a schema puts it.
    ants = timeline(database, by="class,model_version", class_="ant", metric="rows")["rows"]
    counts = {row["model_version"]: row["value"] for row in ants}
    assert counts["v1"] == (rows.label == 0).sum()
    assert counts["v4"] == (rows.label == 3).sum()


def test_the_classes_that_are_asked_for(recorded: Database) -> None:
    def classes(*wanted: str) -> list[str]:
        query = {"by": "class", "step": "1d"} | ({"class_": wanted[0]} if wanted else {})
        return [row["class"] for row in timeline(recorded, **query)["rows"]]

    assert classes() == sorted(NAMES)
    assert classes("top:2") == ["cat", "dog"]
    assert classes("bee") == ["bee"]
    assert classes("0") == ["ant"]
    with pytest.raises(InvalidDocument, match="no such class; there are ant, bee, cat, dog"):
        classes("fish")
    with pytest.raises(InvalidDocument, match="no such class"):
        classes("4")
    with pytest.raises(InvalidDocument, match=r"by class there are: loss\.mean, recall"):
        timeline(recorded, by="class", metric="ece")


def test_nothing_selected_is_an_empty_answer(recorded: Database) -> None:
    for query in (
        {"model": "other"},
        {"from_": "2030-01-01T00:00:00Z"},
        {"by": "class", "to": "1"},
    ):
        for metric in ("loss.mean", "rows"):
            assert timeline(recorded, metric=metric, **query)["rows"] == []


def test_an_answer_has_an_end(recorded: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidDocument, match="ask for longer steps"):
        timeline(recorded, step="1m", from_="2000-01-01T00:00:00Z")
    monkeypatch.setattr(timeseries, "MOST_ROWS", 100)
    with pytest.raises(InvalidDocument, match="150 rows, more than 100"):
        timeline(recorded, step="1m", by="model_version")


@pytest.mark.parametrize("metric", METRICS)
def test_parts_of_a_time_are_merged_exactly(recorded: Database, metric: str) -> None:
    """A ragged selection is the rows within it, whatever it is read from."""
    low, high = sorted(each.time for each in BATCHES)[10], sorted(each.time for each in BATCHES)[-9]
    (row,) = timeline(
        recorded,
        metric=metric,
        step="1d",
        model_version="v1",
        from_=times.text(low),
        to=times.text(high),
    )["rows"]
    rows = rows_of([each for each in BATCHES if each.version == "v1" and low <= each.time < high])
    tolerance = 0.0101 if metric.startswith("loss.p") else 1e-12
    assert row["value"] == pytest.approx(ORACLES[metric](rows), rel=tolerance)
    assert row["status"] == "partial"
