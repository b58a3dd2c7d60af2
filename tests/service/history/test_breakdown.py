"""Classes, hardest rows, calibration, histogram: against the rows they are made of."""

import numpy as np
import pytest

from service.errors import InvalidDocument
from service.history import breakdown, classes, times
from service.history.database import Database
from service.history.questions import Referring
from tests.service.history.asked import ask, rows_of
from tests.service.history.conftest import Filled
from tests.service.history.histories import NAMES, START, Batch, history, insert_batches, simulated

BATCHES = history(11, minutes=40, versions=("v1",), rows=25)
HALF = "2026-01-01T00:20:00Z"
EARLY = [each for each in BATCHES if each.time < times.parse(HALF)]
LATE = [each for each in BATCHES if each.time >= times.parse(HALF)]


@pytest.fixture(scope="module")
def recorded(filled: Filled) -> Database:
    return filled(BATCHES)


def mean(batches: list[Batch], index: int) -> float:
    rows = rows_of(batches)
    own = rows.label == index
    return float(np.average(rows.loss[own], weights=rows.weight[own]))


def table(database: Database, *query: tuple[str, str]) -> dict[str, object]:
    return ask(database, classes.Question, classes.answer, query)


def test_a_class_is_its_rows(recorded: Database) -> None:
    rows = rows_of(BATCHES)
    x = rows.loss * rows.weight
    answer = table(recorded)
    assert answer["classes"] == len(NAMES)
    assert answer["map"] is None
    found = answer["rows"]
    assert isinstance(found, list)
    sums = {each["class"]: x[rows.label == NAMES.index(each["class"])].sum() for each in found}
    assert list(sums) == sorted(sums, key=lambda name: -sums[name])
    for each in found:
        own = rows.label == NAMES.index(each["class"])
        assert each["support"] == own.sum()
        assert each["predicted"] == (rows.prediction == NAMES.index(each["class"])).sum()
        assert each["loss_mean"] == pytest.approx(mean(BATCHES, NAMES.index(each["class"])))
        assert each["loss_share"] == pytest.approx(x[own].sum() / x.sum())
        assert each["gradient_norm_mean"] == pytest.approx(rows.norm[own].mean())
        assert each["gradient_share"] == pytest.approx(rows.norm[own].sum() / rows.norm.sum())
        assert each["recall"] == pytest.approx(rows.hit[own].mean())
        assert each["loss_low"] < each["loss_mean"] < each["loss_high"]
        assert each["recall_low"] < each["recall"] < each["recall_high"]
        assert "loss_change" not in each


def test_a_class_against_its_reference(recorded: Database) -> None:
    answer = table(recorded, ("from", HALF), ("reference_to", HALF), ("class", "cat"))
    assert isinstance(answer["rows"], list)
    (cat,) = answer["rows"]
    change = mean(LATE, 2) - mean(EARLY, 2)
    assert cat["loss_change"] == pytest.approx(change)
    assert cat["loss_change_low"] < change < cat["loss_change_high"]
    assert cat["reference_loss_mean"] == pytest.approx(mean(EARLY, 2))
    early, late = rows_of(EARLY), rows_of(LATE)
    recalls = [each.hit[each.label == 2].mean() for each in (early, late)]
    assert cat["recall_change"] == pytest.approx(recalls[1] - recalls[0])
    assert cat["reference_support"] == (early.label == 2).sum()


def test_a_reference_without_data_changes_nothing(recorded: Database) -> None:
    answer = table(recorded, ("reference_to", "2020-01-01T00:00:00Z"))
    assert isinstance(answer["rows"], list)
    for each in answer["rows"]:
        assert each["reference_support"] == 0
        assert each["loss_change"] is None


def test_classes_over_time(recorded: Database) -> None:
    answer = table(
        recorded, ("from", HALF), ("reference_to", HALF), ("step", "10m"), ("class", "top:2")
    )
    drawn = answer["map"]
    assert isinstance(drawn, dict)
    assert drawn["class"] == ["dog", "cat"]
    assert drawn["time"] == ["2026-01-01T00:20:00Z", "2026-01-01T00:30:00Z"]
    cut = times.parse("2026-01-01T00:30:00Z")
    for row, index in enumerate((3, 2)):
        parts = [[each for each in LATE if (each.time < cut) is first] for first in (True, False)]
        means = [mean(part, index) for part in parts]
        assert drawn["loss_mean"][row] == pytest.approx(means)
        base = mean(EARLY, index)
        assert drawn["base"][row] == pytest.approx(base)
        assert drawn["change"][row] == pytest.approx([each - base for each in means])
        counts = [int((rows_of(part).label == index).sum()) for part in parts]
        assert drawn["support"][row] == counts


def test_without_a_reference_the_base_is_the_whole(recorded: Database) -> None:
    drawn = table(recorded, ("step", "auto"), ("max_points", "4"), ("class", "dog"))["map"]
    assert isinstance(drawn, dict)
    assert len(drawn["time"]) <= 4
    assert drawn["base"] == pytest.approx([mean(BATCHES, 3)])


def test_a_map_has_an_end(recorded: Database) -> None:
    with pytest.raises(InvalidDocument, match="ask for longer steps or fewer classes"):
        table(recorded, ("step", "1m"), ("from", "2000-01-01T00:00:00Z"))


def test_nothing_selected_is_an_empty_table(recorded: Database) -> None:
    answer = table(recorded, ("model", "other"), ("step", "auto"))
    assert answer["rows"] == []


def test_the_hardest_rows_are_the_hardest(recorded: Database) -> None:
    answer = ask(
        recorded, breakdown.HardestQuestion, breakdown.hardest, [("limit", "4"), ("from", HALF)]
    )
    every = sorted(
        ((loss, each.batch_id, row) for each in LATE for row, loss in enumerate(each.rows.loss)),
        reverse=True,
    )[:4]
    assert [(each["loss"], each["batch_id"], each["row"]) for each in answer["rows"]] == every
    for each in answer["rows"]:
        batch = next(one for one in LATE if one.batch_id == each["batch_id"])
        assert each["label_name"] == NAMES[batch.rows.label[each["row"]]]
        assert each["prediction_name"] == NAMES[batch.rows.prediction[each["row"]]]
        assert each["time"] == times.text(batch.time)
        assert each["model_version"] == "v1"


def test_calibration_is_that_of_the_rows(recorded: Database) -> None:
    answer = ask(recorded, Referring, breakdown.calibration, [("reference_to", HALF)])
    for found, batches in ((answer, BATCHES), (answer["reference"], EARLY)):
        rows = rows_of(batches)
        assert found["rows"] == found["decisions"] == len(rows.loss)
        assert found["brier"]["value"] == pytest.approx(np.mean((1 - rows.confidence) ** 2))
        which = np.ceil(rows.confidence * 15).astype(int) - 1
        for place in range(15):
            own = which == place
            assert found["bins"]["count"][place] == own.sum()
            if own.any():
                assert found["bins"]["accuracy"][place] == pytest.approx(rows.hit[own].mean())
                expected = rows.confidence[own].mean()
                assert found["bins"]["confidence_mean"][place] == pytest.approx(expected)
                assert found["bins"]["low"][place] <= rows.hit[own].mean() + 1e-12
            else:
                assert found["bins"]["accuracy"][place] is None
    assert answer["ece"]["low"] <= answer["ece"]["value"] <= answer["ece"]["high"]


def test_a_histogram_counts_the_rows(recorded: Database) -> None:
    answer = ask(recorded, Referring, breakdown.histogram, [("from", HALF), ("reference_to", HALF)])
    for found, batches in ((answer, LATE), (answer["reference"], EARLY)):
        losses = rows_of(batches).loss
        buckets = found["buckets"]
        for lower, upper, count in zip(
            buckets["lower"], buckets["upper"], buckets["count"], strict=True
        ):
            assert count == ((losses > lower) & (losses <= upper)).sum()
        assert sum(buckets["count"]) == found["rows"] == len(losses)
        assert (found["min"], found["max"]) == (losses.min(), losses.max())
        for name, share in (("p50", 50), ("p90", 90)):
            estimate = found["quantiles"][name]
            exact = np.percentile(losses, share, method="inverted_cdf")
            assert estimate["value"] == pytest.approx(exact, rel=0.0101)
            assert estimate["low"] <= exact <= estimate["high"]
    assert ask(recorded, Referring, breakdown.histogram)["reference"] is None


def test_empty_selections_are_answered(recorded: Database) -> None:
    nothing = [("model", "other")]
    assert ask(recorded, breakdown.HardestQuestion, breakdown.hardest, nothing)["rows"] == []
    calibration = ask(recorded, Referring, breakdown.calibration, nothing)
    assert calibration["ece"] == {"value": None, "low": None, "high": None}
    assert calibration["entropy_mean"] is None
    histogram = ask(recorded, Referring, breakdown.histogram, nothing)
    assert histogram["buckets"]["count"] == []
    assert histogram["quantiles"]["p50"]["value"] is None


def test_units_are_not_mixed(database: Database) -> None:
    rows = simulated(np.random.default_rng(0), 5)
    insert_batches(database, [Batch("a", START, rows), Batch("a", START, rows, variant="focal")])
    for model, answer in (
        (classes.Question, classes.answer),
        (breakdown.HardestQuestion, breakdown.hardest),
        (Referring, breakdown.calibration),
        (Referring, breakdown.histogram),
    ):
        with pytest.raises(InvalidDocument, match="add variant="):
            ask(database, model, answer)  # type: ignore[arg-type]
