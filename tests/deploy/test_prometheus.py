"""deploy/prometheus, asked of Prometheus' own tool and of the metrics that are exported."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml  # type: ignore[import-untyped]

from service.history.database import sqlite_url
from service.history.webhooks import Outcome
from service.problems import KINDS
from service.telemetry import REASONS
from tests.deploy.batches import TRACK
from tests.deploy.exported import Exported
from tests.deploy.exported import exported as exported_by
from tests.deploy.promql import TARGET_LABELS, metrics_in
from tests.service.harness import BATCH, Running

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
RULE_TESTS = Path(__file__).with_name("alerts_test.yml")
TESTED = [
    test
    for each in yaml.safe_load(RULE_TESTS.read_text())["tests"]
    for test in each["alert_rule_test"]
]
OPERATIONS = json.loads((ROOT / "deploy/grafana/dashboards/operations.json").read_text())
CHARTED = [target["expr"] for panel in OPERATIONS["panels"] for target in panel.get("targets", ())]
EXPRESSIONS = [*(rule["expr"] for rule in RULES), *CHARTED]
# What is hard to bring about: the values that these labels can have.
RARE = {
    "status": {str(kind.status) for kind in KINDS.values()},
    "reason": set(REASONS.values()),
    "outcome": set(get_args(Outcome)),
}
FROM_PROMETHEUS = ("up", "ALERTS")


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        reason = "promtool is not installed (Debian: prometheus)"
        if os.environ.get("XENT_TESTS_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def test_the_configuration_is_valid_and_brings_its_rules() -> None:
    done = promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in done.stdout


def test_rules_fire_when_they_should_and_only_then() -> None:
    done = promtool("test", "rules", str(RULE_TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_seen_firing_and_silent() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    assert {test["alertname"] for test in TESTED if test.get("exp_alerts")} == set(names)
    assert {test["alertname"] for test in TESTED if not test.get("exp_alerts")} == set(names)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description"}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_ask_for_what_is_exported(expression: str, exported: Exported) -> None:
    asked = [each for each in metrics_in(expression) if each.name not in FROM_PROMETHEUS]
    assert asked or any(name in expression for name in FROM_PROMETHEUS)
    for each in asked:
        assert each.name in exported.labels, f"{each.name} is not exported"
        known = exported.labels[each.name] | TARGET_LABELS
        assert {label for label, _, _ in each.matchers} <= known
        for label, sign, value in each.matchers:
            seen = exported.values(each.name, label) | RARE.get(label, set())
            if label not in TARGET_LABELS and sign in ("=", "=~"):
                assert any(re.fullmatch(value, one) for one in seen), f"{label} is never {value}"
    labels = set[str]().union(*(exported.labels[each.name] for each in asked), TARGET_LABELS)
    grouped = re.findall(r"\bby\s*\(([^)]*)\)", expression)
    assert {label.strip() for group in grouped for label in group.split(",")} <= labels | {"le"}


def test_what_the_history_refuses_is_told_apart_from_the_rest(tmp_path: Path) -> None:
    server = Running(data_dir=tmp_path, database_url=sqlite_url(tmp_path / "away"))
    try:
        refused = server.client.post("/loss/sparse", json={**BATCH, "track": TRACK})
        assert refused.status_code == 503
        exports = exported_by(server)
        assert exports.values("xent_rejected_total", "reason") == {"history_unavailable"}
    finally:
        server.stop()


def test_the_service_is_scraped_by_the_names_and_port_of_the_containers() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    ours = [name for name, each in compose["services"].items() if "build" in each]
    assert found["names"] == ours
    assert all(each["ports"][0].endswith(f":{found['port']}") for each in services(compose, ours))
    assert all(f'job="{job["job_name"]}"' in each for each in EXPRESSIONS if "up{" in each)


def services(compose: dict[str, Any], names: list[str]) -> list[dict[str, Any]]:
    return [compose["services"][name] for name in names]


def test_metrics_are_read_in_prometheus_own_words(server: Running) -> None:
    answer = server.client.get("/metrics")
    done = promtool_reads(answer.text)
    assert done.returncode in (0, 3), done.stdout + done.stderr  # 3: remarks on style


def promtool_reads(text: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        promtool()
    return subprocess.run(
        [str(program), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
