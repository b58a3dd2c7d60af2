"""Asking how a candidate compares with a baseline: selections, refusals, words."""

from typing import Any

import numpy as np
import pytest

from service.errors import InvalidDocument
from service.history import comparing, times
from service.history.comparing import Question
from service.history.database import Database
from service.history.questions import read
from service.history.rollups import view
from tests.service.history.histories import NAMES, START, Batch, insert_batches, simulated


def ask(database: Database, *pairs: tuple[str, str]) -> dict[str, Any]:
    with view(database, "p") as seen:
        return comparing.answer(seen, read(Question, pairs))


def batches(
    version: str,
    shift: float = 0.0,
    first: int = 0,
    **more: Any,  # noqa: ANN401
) -> list[Batch]:
    random = np.random.default_rng((len(version), first))
    return [
        Batch(
            f"{version}-{minute}",
            START + minute * times.MINUTE,
            simulated(random, 50, shift=shift),
            version,
            **more,
        )
        for minute in range(first, first + 20)
    ]


VERSIONS = (("baseline", "model_version:v1"), ("candidate", "model_version:v2"))


def test_a_worse_version_is_told(database: Database) -> None:
    insert_batches(database, [*batches("v1"), *batches("v2", shift=0.4)])
    found = ask(database, *VERSIONS)
    assert (found["comparable"], found["reason"]) == (True, None)
    assert (found["verdict"], found["method"]) == ("worse", "welch")
    assert found["low"] < 0.4 < found["high"]
    assert found["difference"] == pytest.approx(
        found["candidate"]["mean"] - found["baseline"]["mean"]
    )
    assert found["baseline"]["model_versions"] == ["v1"]
    assert found["baseline"]["rows"] == found["candidate"]["rows"] == 1000
    assert found["sentence"].startswith("v2 is worse than v1: mean loss ")
    assert "Welch's t test over 1000 against 1000 rows" in found["sentence"]
    assert "95 % interval" in found["sentence"]
    classes = found["per_class"]
    assert classes["name"] == list(NAMES)
    assert {len(column) for column in classes.values()} == {4}
    assert sum(classes["support_candidate"]) == 1000
    swapped = ask(database, ("baseline", "model_version:v2"), ("candidate", "model_version:v1"))
    assert swapped["verdict"] == "better"
    assert swapped["difference"] == pytest.approx(-found["difference"])
    assert swapped["p"] == pytest.approx(found["p"])


def test_names_are_paired(database: Database) -> None:
    insert_batches(database, batches("v1", clusters=50))
    insert_batches(database, batches("v2", clusters=50))
    found = ask(database, *VERSIONS)
    assert found["method"] == "paired_poisson_bootstrap"
    insert_batches(database, batches("v2", first=30))  # rows without names
    assert ask(database, *VERSIONS)["method"] == "welch"


def test_windows_are_compared(database: Database) -> None:
    insert_batches(database, [*batches("v1"), *batches("v1", shift=1.0, first=20)])
    middle = times.text(START + 20 * times.MINUTE)
    found = ask(database, ("baseline_to", middle), ("candidate_from", middle))
    assert found["verdict"] == "worse"
    assert found["baseline"]["rows"] == found["candidate"]["rows"] == 1000
    assert found["baseline"]["to"] == found["candidate"]["from"] == middle
    assert found["sentence"].startswith(f"candidate from {middle} is worse than baseline to ")
    both = (("baseline", "model_version:v1"), ("candidate", "model_version:v1"))
    again = ask(database, *both, ("baseline_to", middle), ("candidate_from", middle))
    assert again["difference"] == found["difference"]


def test_tags_and_models_are_compared(database: Database) -> None:
    insert_batches(database, batches("v1", tags={"site": "a"}))
    insert_batches(database, batches("v1", first=30, tags={"site": "b"}, model="n"))
    by_tag = ask(database, ("baseline", "tag.site:a"), ("candidate", "tag.site:b"))
    by_model = ask(database, ("baseline", "model:m"), ("candidate", "model:n"))
    assert by_tag["verdict"] == "no_difference"
    assert by_tag["sentence"].startswith("No difference between b and a was found")
    assert by_tag["difference"] == by_model["difference"]


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"variant": "focal"}, "variant"),
        ({"settings": '{"gamma":1}'}, "settings"),
        ({"schema": "pets"}, "label_schema"),
        ({"schema_version": 2, "names": NAMES[::-1]}, "label_schema"),
    ],
)
def test_losses_of_different_units_are_not_compared(
    database: Database, more: dict[str, Any], word: str
) -> None:
    insert_batches(database, [*batches("v1"), *batches("v2", **more)])
    found = ask(database, *VERSIONS)
    assert (found["comparable"], found["verdict"]) == (False, "not_comparable")
    assert f"different {word}" in found["reason"]
    assert found["sentence"] == found["reason"]
    numbers = ("difference", "low", "high", "p", "method")
    assert all(found[name] is None for name in numbers)
    assert found["per_class"]["class"] == []


def test_nothing_is_not_compared(database: Database) -> None:
    insert_batches(database, batches("v1"))
    found = ask(database, *VERSIONS)
    assert not found["comparable"]
    assert "nothing was recorded that is the candidate" in found["reason"]
    random = np.random.default_rng(0)
    unlabelled = Batch("u", START, simulated(random, 0), "v2")
    insert_batches(database, [unlabelled])
    assert "no evaluated rows" in ask(database, *VERSIONS)["reason"]


def test_few_rows_are_not_judged(database: Database) -> None:
    random = np.random.default_rng(0)
    few = [Batch("f", START, simulated(random, 10, shift=9), "v2")]
    insert_batches(database, [*batches("v1"), *few])
    found = ask(database, *VERSIONS)
    assert (found["comparable"], found["verdict"], found["p"]) == (True, "insufficient", None)
    assert "too few independent rows" in found["sentence"]
    assert found["difference"] > 8


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("baseline", "model_version:1"), ("candidate", "model_version:1")],
        [("baseline", "v1")],
        [("baseline", "variant:focal")],
        [("baseline", "tag.:x")],
        [("baseline", "model_version:")],
        [("baseline_from", "2026-01-02T00:00:00Z"), ("baseline_to", "2026-01-01T00:00:00Z")],
        [("alpha", "2"), ("candidate", "model:x")],
        [("metric", "recall"), ("candidate", "model:x")],
    ],
)
def test_questions_that_mean_nothing(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidDocument):
        read(Question, pairs)
