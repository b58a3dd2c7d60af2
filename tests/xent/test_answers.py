"""Answers as objects: everything that the service says, and nothing made up."""

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.service.harness import Running, alike
from tests.xent.rows import LABELS, LOGITS
from xent import AsyncClient, Client, Export, InvalidBatch, Missing, NotFound, Spec, Table

OUTPUTS = ["per_sample", "gradient", "per_class", "distribution", "calibration", "hardest"]
ALL: Any = [*OUTPUTS, "row_statistics"]
NAMES = ["north", "east", "south", "west"]


def by_json(service: Running, **document: object) -> object:
    """Return the answer to the same question asked in JSON, by nobody's client."""
    body = {"logits": LOGITS.astype(float).tolist(), "labels": LABELS.tolist(), **document}
    answer = service.client.post("/loss/sparse", json=body).json()
    del answer["nulls"]
    return answer


def test_all_that_is_said_is_there(client: Client, service: Running) -> None:
    logits = LOGITS.astype(float)
    answer = client.evaluate("sparse", logits, LABELS, outputs=ALL, class_names=NAMES, k=3)
    found = answer.json()
    found.pop("nulls", None)
    expected = by_json(service, outputs=ALL, class_names=NAMES, k=3)
    assert alike(found, expected, 1e-12)
    assert json.dumps(found, allow_nan=False)
    assert answer.per_class is not None
    assert answer.per_class["name"].tolist() == NAMES
    assert list(answer.per_class)[:3] == ["class", "name", "support"]
    assert answer.calibration is not None
    assert answer.calibration.bins.height == 15
    assert answer.distribution is not None
    assert answer.distribution.buckets["count"].sum() == 60
    assert answer.hardest is not None
    assert answer.hardest.height == 3
    assert answer.row_statistics is not None
    assert answer.row_statistics["entropy"].shape == (60,)
    assert answer.row_status.sum() == 0
    assert float(answer) == answer.loss
    assert answer.reduction.sum == pytest.approx(answer.per_sample.sum(), rel=1e-12)


def test_what_was_not_asked_for_is_none(client: Client) -> None:
    answer = client.loss("sparse", LOGITS, LABELS)
    large = (answer.gradient, answer.per_sample, answer.per_class, answer.hardest, answer.track)
    assert large == (None,) * 5


def test_what_is_undefined_says_so(client: Client) -> None:
    answer = client.loss("sparse", LOGITS, np.full(60, -100), outputs=["per_class", "gradient"])
    assert (answer.loss, answer.undefined) == (None, "no_rows")
    assert math.isnan(float(answer))
    assert not answer.gradient.any()
    assert answer.per_class is not None
    assert answer.per_class.rows()[0]["recall"] is None
    assert [each.code for each in answer.diagnostics] == ["nothing_evaluated"]
    assert answer.metrics() == {"rows": 0.0}


def test_an_answer_gives_a_tracker_its_numbers(client: Client) -> None:
    answer = client.loss(
        "sparse",
        LOGITS,
        LABELS,
        outputs=["per_class", "calibration", "distribution"],
        class_names=NAMES,
    )
    found = answer.metrics("validation/")
    assert found["validation/loss"] == answer.loss
    assert {"validation/ece", "validation/p99", "validation/class/south/recall"} <= set(found)
    assert all(isinstance(value, float) for value in found.values())


def test_a_comparison_has_its_results_by_name(client: Client) -> None:
    found = client.compare(
        LOGITS,
        LABELS,
        variants=[
            "sparse",
            Spec("focal", name="soft", gamma=0.5),
            {"variant": "focal", "settings": {"gamma": np.float64(3)}},
        ],
        outputs=["gradient"],
    )
    assert found["soft"].settings["gamma"] == 0.5
    assert found["focal"].settings["gamma"] == 3
    alone = client.loss("focal", LOGITS, LABELS, gamma=0.5, outputs=["gradient"])
    assert np.array_equal(found["soft"].gradient, alone.gradient)
    assert found.pairs.height == 3
    assert found.variants[0].class_share["share"].sum() == pytest.approx(1)
    assert len(found.json()["results"][0]["gradient"]) == 60
    with pytest.raises(KeyError, match="there are sparse, soft, focal"):
        found["hard"]
    for nothing in ({"name": "x"}, {"variant": "focal", "gamma": 1}):
        with pytest.raises(InvalidBatch, match="a variant is a name"):
            client.compare(LOGITS, LABELS, variants=[nothing])
    assert repr(Spec("focal", name="soft", gamma=0.5)) == "Spec('focal', name='soft', gamma=0.5)"


def test_settings_may_be_arrays(client: Client) -> None:
    weights = np.array([1.0, 2.0, 0.5, 1.0], dtype=np.float32)
    answer = client.loss("weighted", LOGITS, LABELS, class_weights=weights)
    assert answer.settings["class_weights"] == [1.0, 2.0, 0.5, 1.0]


def test_an_option_that_is_none_is_named(client: Client) -> None:
    with pytest.raises(InvalidBatch, match="reduktion is no option; known: class_axis"):
        client.evaluate("sparse", LOGITS, LABELS, reduktion="sum")  # type: ignore[call-arg]


def test_variants_are_described(client: Client) -> None:
    found = client.variants()
    assert client.variant("focal") in found
    assert found[0].settings["properties"]
    example = client.variant("focal").example
    loss = client.evaluate(
        "focal", example["logits"], example["labels"], settings=example["settings"]
    )
    assert loss.loss
    with pytest.raises(NotFound, match="did you mean 'focal'"):
        client.variant("focl")
    with pytest.raises(NotFound):
        client.variant("../metrics")


@pytest.mark.anyio
async def test_whoever_awaits_is_answered_the_same(client: Client, url: str) -> None:
    async with AsyncClient(url) as other:
        answer = await other.loss("focal", LOGITS, LABELS, gamma=0.5, outputs=["gradient"])
        expected = client.loss("focal", LOGITS, LABELS, gamma=0.5, outputs=["gradient"])
        assert np.array_equal(answer.gradient, expected.gradient)
        assert (await other.compare(LOGITS, LABELS, variants=["sparse"]))["sparse"].loss
        assert await other.variants() == client.variants()
        assert (await other.ready())["ready"] is True
        assert repr(other.project("p")) == "AsyncProject('p')"


def test_a_table_is_a_dataframe_of_every_kind() -> None:
    table = Table(
        {"class": [0, 1], "loss": [0.5, None], "name": ["a", None], "seen": [True, False]}
    )
    rows: list[Mapping[str, object]] = [
        {"class": 0, "loss": 0.5, "name": "a", "seen": True},
        {"class": 1, "loss": None, "name": None, "seen": False},
    ]
    assert table.rows() == rows
    assert table.to_polars().rows(named=True) == rows
    frame = table.to_pandas()
    assert frame["loss"].isna().tolist() == [False, True]
    assert frame["class"].dtype == np.int64
    assert Table.of_rows(rows).rows() == rows
    assert repr(table) == "Table(2 rows: class, loss, name, seen)"
    assert Table({}).height == 0


def test_without_a_library_of_dataframes_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(Missing, match=f"pip install '{name}'"):
            getattr(Table({"a": [1]}), f"to_{name}")()
    with pytest.raises(Missing, match="pip install 'pandas'"):
        Export("csv", b"").to_pandas()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Missing, match="pip install 'pyarrow'"):
        Export("parquet", b"").to_pandas()
