"""Alerts on a database: states, what they saw, annotations, messages, corrections."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, select

from service.errors import AlertExists, InvalidDocument, UnknownAlert, UnknownProject
from service.history import tables, times
from service.history.alerts import Alerts
from service.history.database import Database
from service.history.rules import Rule
from service.history.watcher import Watcher
from tests.service.harness import until
from tests.service.history.histories import START, Batch, Rows, insert_batches, simulated

FROM = times.text(START)
CHANGE = 60
RULE = {
    "name": "loss",
    "kind": "threshold",
    "threshold": 1.15,  # the mean of the simulated loss is 1.05
    "selection": {"model": "m", "model_version": "v1"},
    "step": "1m",
    "from": FROM,
}
REFERENCE = {
    "kind": "reference",
    "reference": {"from": FROM, "to": times.text(START + 40 * times.MINUTE)},
    "from": times.text(START + 40 * times.MINUTE),
    "threshold": None,
}


def batches(
    first: int,
    last: int,
    *,
    shift: float = 0.0,
    seed: int = 0,
    **more: Any,  # noqa: ANN401
) -> list[Batch]:
    """Return a batch of 60 rows in every minute from ``first`` up to ``last``."""
    random = np.random.default_rng((seed, first))
    return [
        Batch(f"b{minute}-{seed}", START + minute * times.MINUTE, _rows(random, shift), **more)
        for minute in range(first, last)
    ]


def _rows(random: np.random.Generator, shift: float) -> Rows:
    return simulated(random, 60, shift=shift)


def rule(**more: Any) -> Rule:  # noqa: ANN401
    return Rule.model_validate({**RULE, **more})


def alerts_of(database: Database, *hosts: str) -> tuple[Alerts, list[None]]:
    woken: list[None] = []
    return Alerts(database, hosts, wake=lambda: woken.append(None)), woken


def only(alerts: Alerts) -> dict[str, Any]:
    listed: Sequence[dict[str, Any]] = alerts.listing("p")["alerts"]
    assert len(listed) == 1
    return listed[0]


def annotations(database: Database) -> list[tuple[int, str, str]]:
    table = tables.annotation.c
    with database.reading() as connection:
        query = select(table.time, table.kind, table.text).order_by(table.id)
        return [(time, kind, text) for time, kind, text in connection.execute(query)]


def revision(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.execute(select(tables.project.c.revision)).scalar_one())


def messages(database: Database) -> list[dict[str, Any]]:
    with database.reading() as connection:
        found = connection.execute(select(tables.delivery.c.body).order_by(tables.delivery.c.id))
        return [json.loads(body) for body in found.scalars()]


def minute(text: str) -> float:
    return (times.parse(text) - START) / times.MINUTE


@pytest.mark.parametrize(
    "kind",
    [
        {},
        REFERENCE,
        {"kind": "cusum", "shift": 0.1, "threshold": 1.1},
        {**REFERENCE, "kind": "cusum", "shift": 0.2},
    ],
    ids=["threshold", "reference", "cusum", "cusum of a reference"],
)
def test_a_change_fires_and_ends(database: Database, kind: dict[str, Any]) -> None:
    alerts, woken = alerts_of(database, "example.org")
    insert_batches(database, batches(0, CHANGE))
    made = alerts.create("p", rule(**kind, webhook="https://example.org/x"))
    assert made["state"] == "ok"
    assert made["detail"]["rows"] >= 500
    assert made["detail"]["reason"] is None
    assert messages(database)[-1]["state"] == "ok"
    insert_batches(database, batches(CHANGE, CHANGE + 20, shift=0.8))
    found = only(alerts)
    assert found["state"] == "firing"
    assert CHANGE <= minute(found["since"]) <= CHANGE + 12
    detail = found["detail"]
    assert abs(minute(detail["from"]) - CHANGE) <= 9  # 500 rows are 9 minutes
    assert detail["estimate"] > detail["target"]
    assert detail["unit"] == "nats"
    if kind.get("kind") != "cusum":
        assert detail["target"] < detail["bound"] < detail["estimate"]
    assert alerts.states() == {("p", "loss"): "firing"}
    insert_batches(database, batches(CHANGE + 20, CHANGE + 60))
    over = only(alerts)
    assert over["state"] == "ok"
    assert CHANGE + 20 <= minute(over["since"]) <= CHANGE + 30
    assert [message["state"] for message in messages(database)] == ["ok", "firing", "ok"]
    assert [message["previous"] for message in messages(database)] == ["no_data", "ok", "firing"]
    noted = annotations(database)
    assert [kind for _, kind, _ in noted] == ["alert"] * 3
    assert noted[1][0] == times.parse(found["since"])
    assert "loss fires: loss.mean" in noted[1][2]
    assert len(woken) == 3


def test_a_message_says_all_that_is_known(database: Database) -> None:
    alerts, _ = alerts_of(database, "example.org")
    insert_batches(database, batches(0, 30, shift=0.8))
    made = alerts.create("p", rule(webhook="https://example.org/x"))
    (message,) = messages(database)
    assert len(message.pop("id")) == 32
    times.parse(message.pop("noticed"))
    assert message == {
        "project": "p",
        "alert": "loss",
        "state": "firing",
        "previous": "no_data",
        "since": made["since"],
        "text": annotations(database)[0][2],
        "detail": made["detail"],
        "rule": made["rule"],
    }


def test_asking_again_changes_nothing(database: Database) -> None:
    alerts, _ = alerts_of(database)
    insert_batches(database, batches(0, 30, shift=0.8))
    alerts.create("p", rule())
    first, before = only(alerts), revision(database)
    others = [alerts_of(database)[0] for _ in range(3)]  # as after restarts
    assert all(only(each) == first for each in (alerts, *others))
    assert revision(database) == before
    assert len(annotations(database)) == 1


def test_many_looks_raise_no_alarm_that_one_look_would_not(database: Database) -> None:
    alerts, _ = alerts_of(database)
    insert_batches(database, batches(0, 1))
    alerts.create("p", rule(threshold=1.02, min_rows=100))
    states = []
    for start in range(1, 60, 3):
        insert_batches(database, batches(start, start + 3))
        states.append(only(alerts)["state"])
    fresh, _ = alerts_of(database)
    fresh.remove("p", "loss")
    assert fresh.create("p", rule(threshold=1.02, min_rows=100))["state"] == states[-1]


def test_late_rows_and_corrections_need_no_care(database: Database) -> None:
    alerts, _ = alerts_of(database)
    insert_batches(database, batches(0, 40))
    alerts.create("p", rule())
    assert only(alerts)["state"] == "ok"
    insert_batches(database, batches(20, 40, shift=1.5, seed=1))  # late, and bad
    assert only(alerts)["state"] == "firing"
    with database.writing() as connection:  # they were wrong
        batch = tables.batch
        connection.execute(delete(batch).where(batch.c.batch_id.like("%-1")))
        starts = [START + each * times.MINUTE for each in range(20, 40)]
        series = connection.execute(select(tables.series.c.id)).scalar_one()
        connection.execute(
            tables.dirty.insert(), [{"series_id": series, "start": start} for start in starts]
        )
        connection.execute(tables.project.update().values(revision=tables.project.c.revision + 1))
    assert only(alerts)["state"] == "ok"


def test_rows_before_the_rule_do_not_count(database: Database) -> None:
    alerts, _ = alerts_of(database)
    insert_batches(database, batches(0, 40, shift=2))
    made = alerts.create("p", rule(**{"from": None}))
    assert (made["state"], made["detail"]["reason"]) == ("no_data", "no rows yet")
    assert made["since"] == made["created"]
    assert alerts.states() == {("p", "loss"): "no_data"}


def test_few_rows_cannot_tell(database: Database) -> None:
    alerts, _ = alerts_of(database)
    insert_batches(database, batches(0, 5, shift=9))
    made = alerts.create("p", rule())
    assert (made["state"], made["detail"]["reason"]) == ("no_data", "fewer than 500 rows")
    assert annotations(database) == []  # it was so from the beginning
    reference = {**REFERENCE, "reference": {"to": FROM}, "name": "b"}
    late = alerts.create("p", rule(**reference))
    assert late["detail"]["reason"] == "the reference holds too few rows"


def test_what_has_no_unit_in_common_cannot_be_told(database: Database) -> None:
    alerts, _ = alerts_of(database)
    insert_batches(database, batches(0, 30, shift=9))
    alerts.create("p", rule())
    assert only(alerts)["state"] == "firing"
    insert_batches(database, batches(0, 3, variant="focal", seed=2))
    found = only(alerts)
    assert found["state"] == "no_data"
    assert "variant" in found["detail"]["reason"]
    focal = rule(name="focal", selection={"variant": "focal"}, min_rows=100)
    assert alerts.create("p", focal)["state"] == "ok"


@pytest.mark.parametrize("name", ["dog", 3])
def test_one_class_is_watched(database: Database, name: str | int) -> None:
    alerts, _ = alerts_of(database)
    insert_batches(database, batches(0, 50))
    # Dogs are harder than the mean of all.
    made = alerts.create("p", rule(selection={"class": name}, threshold=1.3, min_rows=200))
    assert made["state"] == "firing"
    assert made["detail"]["rows"] < 50 * 60 / 2
    ants = rule(name="ant", selection={"class": "ant"}, threshold=1.3, min_rows=200)
    assert alerts.create("p", ants)["state"] == "ok"
    none = alerts.create("p", rule(name="none", selection={"class": "emu"}))
    assert none["state"] == "no_data"
    assert "no such class" in none["detail"]["reason"]


@pytest.mark.parametrize(
    ("metric", "threshold", "direction", "state"),
    [
        ("recall", 0.9, "below", "firing"),
        ("recall", 0.2, "below", "ok"),
        ("brier", 0.05, "above", "firing"),
        ("gradient_norm.mean", 0.9, "above", "ok"),
        ("label_ratio", 0.999, "below", "firing"),
        ("nonfinite_rate", 0.01, "above", "ok"),
        ("normalised_entropy", 0.6, "above", "ok"),
        ("normalised_entropy", 0.4, "above", "firing"),
    ],
)
def test_every_mean_can_be_watched(
    database: Database, metric: str, threshold: float, direction: str, state: str
) -> None:
    alerts, _ = alerts_of(database)
    insert_batches(database, batches(0, 60))
    made = alerts.create("p", rule(metric=metric, threshold=threshold, direction=direction))
    assert made["state"] == state
    true = {
        "recall": 0.585,
        "brier": 0.1633,
        "gradient_norm.mean": 0.7,
        "label_ratio": 60 / 61,
        "nonfinite_rate": 0,
        "normalised_entropy": 0.525,  # the prior of these histories loses 2 nats a row
    }
    assert made["detail"]["estimate"] == pytest.approx(true[metric], rel=0.1, abs=0.02)


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"threshold": 1.5}, "firing"),
        ({"threshold": 2.5}, "ok"),
        ({"threshold": 2.5, "direction": "below"}, "firing"),
        ({"threshold": 1.5, "direction": "below"}, "ok"),
        (REFERENCE, "ok"),
    ],
)
def test_a_quantile_can_be_watched(database: Database, more: dict[str, Any], state: str) -> None:
    alerts, _ = alerts_of(database)
    insert_batches(database, batches(0, 70))
    made = alerts.create("p", rule(metric="loss.p90", **more))
    assert made["state"] == state
    losses = simulated(np.random.default_rng(0), 100_000).loss
    assert made["detail"]["estimate"] == pytest.approx(np.quantile(losses, 0.9), rel=0.1)
    assert made["detail"]["unit"] == "nats"
    assert made["detail"]["bound"] is None
    if "reference" in more:
        assert made["detail"]["estimate"] < made["detail"]["target"] < 2.5
        insert_batches(database, batches(70, 90, shift=2.0))
        (firing,) = alerts.listing("p")["alerts"]
        assert firing["state"] == "firing"
        assert minute(firing["detail"]["from"]) == pytest.approx(70, abs=9)
        assert "loss.p90" in annotations(database)[-1][2]


def test_a_rare_quantile_waits_for_its_rows(database: Database) -> None:
    alerts, _ = alerts_of(database)
    insert_batches(database, batches(0, 60))
    made = alerts.create("p", rule(metric="loss.p99", threshold=0.1))
    assert (made["state"], made["detail"]["reason"]) == ("no_data", "fewer than 5000 rows")
    insert_batches(database, batches(60, 100))
    assert only(alerts)["state"] == "firing"


def test_versions_are_compared_with_the_version_before(database: Database) -> None:
    alerts, _ = alerts_of(database)
    insert_batches(database, batches(0, 40))
    insert_batches(database, batches(40, 80, shift=0.5, version="v2"))
    reference = {**REFERENCE, "reference": {"model_version": "v1"}}
    made = alerts.create("p", rule(**reference, selection={"model_version": "v2"}))
    assert made["state"] == "firing"
    assert minute(made["since"]) <= 55


def test_alerts_come_and_go(database: Database) -> None:
    alerts, _ = alerts_of(database)
    with pytest.raises(UnknownProject):
        alerts.create("p", rule())
    with pytest.raises(UnknownProject):
        alerts.listing("p")
    insert_batches(database, batches(0, 3))
    alerts.create("p", rule())
    with pytest.raises(AlertExists):
        alerts.create("p", rule())
    alerts.create("p", rule(name="another"))
    names = [each["rule"]["name"] for each in alerts.listing("p")["alerts"]]
    assert names == ["another", "loss"]
    before = revision(database)
    alerts.remove("p", "loss")
    assert revision(database) == before + 1
    assert alerts.states() == {("p", "another"): "no_data"}
    with pytest.raises(UnknownAlert):
        alerts.remove("p", "loss")
    with pytest.raises(UnknownProject):
        alerts.remove("q", "loss")


def test_messages_of_an_alert_go_with_it(database: Database) -> None:
    alerts, _ = alerts_of(database, "example.org")
    insert_batches(database, batches(0, 30, shift=2))
    alerts.create("p", rule(webhook="https://example.org/"))
    assert len(messages(database)) == 1
    alerts.remove("p", "loss")
    assert messages(database) == []
    assert len(annotations(database)) == 1  # what was, was


def test_two_processes_tell_of_a_change_once(database: Database) -> None:
    one, _ = alerts_of(database, "example.org")
    other, _ = alerts_of(database, "example.org")
    insert_batches(database, batches(0, 20))
    one.create("p", rule(webhook="https://example.org/"))
    insert_batches(database, batches(20, 50, shift=2))
    only(one), only(other), only(one)
    assert [message["state"] for message in messages(database)] == ["ok", "firing"]


def test_the_watcher_looks_without_being_asked(database: Database) -> None:
    alerts, woken = alerts_of(database, "example.org")
    insert_batches(database, batches(0, 20))
    alerts.create("p", rule(webhook="https://example.org/"))
    errors: list[Exception] = []
    watcher = Watcher(database, alerts, interval_s=0.02, report=errors.append)
    watcher.start()
    try:
        insert_batches(database, batches(20, 50, shift=2))
        until(lambda: alerts.states() == {("p", "loss"): "firing"})
    finally:
        watcher.stop()
    assert len(woken) == 2
    assert not errors


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"metric": "ece"}, "/metric"),
        ({"metric": "loss.max"}, "/metric"),
        ({"metric": "rows"}, "/metric"),
        ({"metric": "loss"}, "/metric"),
        ({"metric": "loss.p99", "selection": {"class": "dog"}}, "/metric"),
        ({"metric": "loss.p99", "kind": "cusum", "shift": 0.1}, "/kind"),
        ({"metric": "brier", "selection": {"class": "dog"}}, "/metric"),
        ({"webhook": "https://example.com/"}, "/webhook"),
        ({**REFERENCE, "from": FROM}, "/reference/to"),
        ({**REFERENCE, "from": FROM, "reference": {"from": FROM}}, "/reference/from"),
    ],
)
def test_rules_that_cannot_be_watched(
    database: Database, wrong: dict[str, Any], pointer: str
) -> None:
    alerts, _ = alerts_of(database, "example.org")
    insert_batches(database, batches(0, 1))
    with pytest.raises(InvalidDocument) as raised:
        alerts.create("p", rule(**wrong))
    assert pointer in [fault.pointer for fault in raised.value.faults]


def test_a_project_has_so_many_alerts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.history.alerts.MOST_ALERTS", 2)
    alerts, _ = alerts_of(database)
    insert_batches(database, batches(0, 1))
    alerts.create("p", rule(name="a"))
    alerts.create("p", rule(name="b"))
    with pytest.raises(InvalidDocument, match="at most 2"):
        alerts.create("p", rule(name="c"))


def test_only_the_newest_buckets_are_looked_at(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.history.standing.LOOKBACK", 20)
    alerts, _ = alerts_of(database)
    insert_batches(database, batches(0, 30, shift=3))
    insert_batches(database, batches(30, 70))
    assert alerts.create("p", rule())["state"] == "ok"
    insert_batches(database, batches(70, 90, shift=3))
    found = only(alerts)
    assert found["state"] == "firing"
    assert minute(found["detail"]["from"]) >= 70
