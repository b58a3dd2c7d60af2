"""The document of a rule."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from service.history import times
from service.history.rules import Rule

THRESHOLD = {"name": "a", "kind": "threshold", "threshold": 1.0}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"selection": {"model": "m", "tags": {"site": ["a", "b"]}, "class": 3}},
        {"kind": "reference", "threshold": None, "reference": {"to": "2026-01-01T00:00:00Z"}},
        {"kind": "cusum", "shift": 0.1, "from": "2026-01-01T01:00:00+01:00"},
        {"kind": "cusum", "shift": 1, "threshold": None, "reference": {"model_version": "1"}},
        {"step": "90m", "direction": "below", "webhook": "https://example.org/", "alpha": 0.01},
    ],
)
def test_what_is_kept_is_what_was_asked_for(more: dict[str, Any]) -> None:
    rule = Rule.model_validate({**THRESHOLD, **more})
    stored = json.loads(json.dumps(rule.stored()))
    assert Rule.model_validate(stored) == rule
    asked = {name: value for name, value in more.items() if name in ("kind", "step", "alpha")}
    assert asked.items() <= stored.items()


def test_times_and_steps_are_kept_as_text() -> None:
    rule = Rule.model_validate({**THRESHOLD, "step": "120m", "from": "2026-01-01T01:00:00+01:00"})
    assert rule.step == 2 * times.HOUR
    assert rule.stored()["step"] == "2h"
    assert rule.stored()["from"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "a b"}, "pattern"),
        ({"name": ""}, "pattern"),
        ({"kind": "other"}, "threshold"),
        ({"threshold": None}, "kind threshold needs threshold"),
        ({"threshold": "1"}, "number"),
        ({"threshold": float("nan")}, "finite"),
        ({"reference": {}}, "takes no reference"),
        ({"shift": 0.1}, "takes no shift"),
        ({"kind": "reference"}, "takes no threshold"),
        ({"kind": "reference", "threshold": None}, "needs reference"),
        ({"kind": "cusum"}, "needs shift"),
        ({"kind": "cusum", "shift": 0.0}, "greater than 0"),
        ({"kind": "cusum", "shift": 0.1, "reference": {}}, "either threshold or reference"),
        ({"step": "1s"}, "write a step as"),
        ({"step": 60}, "write a step as"),
        ({"from": 1767225600000}, "write a time as"),
        ({"from": "1767225600000"}, "write a time as"),
        ({"from": "2026-01-01T00:00:00"}, "no offset"),
        ({"alpha": 0}, "greater than 0"),
        ({"min_rows": 1}, "greater than or equal to 2"),
        ({"selection": {"class": -1}}, "greater than or equal to 0"),
        ({"selection": {"class": "top:3"}}, "name one class"),
        ({"selection": {"model": [""]}}, "at least 1"),
        ({"unknown": 1}, "not permitted"),
    ],
)
def test_rules_that_mean_nothing(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Rule.model_validate({**THRESHOLD, **wrong})


def test_a_reference_ends_after_it_begins() -> None:
    reference = {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    wrong = {"name": "a", "kind": "reference", "reference": reference}
    with pytest.raises(ValidationError, match="from must be before to"):
        Rule.model_validate(wrong)
