"""The harness: its arithmetic, its reports, its servers, and a smoke run of what it measures."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report, servers
from benchmarks.__main__ import HERE, IDEAS
from benchmarks.connection import Connection, Refused, post
from benchmarks.harness import Curve, Plot, Row, Sample, Table
from benchmarks.report import Report

SAMPLE = Sample((2.0, 4.0, 9.0))
BASE = Row("base", SAMPLE)
TABLE = Table(
    "title",
    "ms",
    (
        BASE,
        Row("half", Sample((2.0,)), "base", ("<=", 0.4), "the weather"),
        Row("twice", Sample((8.0,)), "base", (">=", 2.0)),
        Row("alone", Sample((3.0,)), None, ("<", 3.0)),
        Row("absent", None, "base", ("<=", 1.0), "no device"),
    ),
    ("note",),
    Plot("stem", "picture", "elements", "ms", (Curve("line", ((1.0, SAMPLE),)),), True),
)


def test_the_readme_tells_of_every_idea() -> None:
    table = (HERE / "README.md").read_text().split("\n| idea |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z-]+)`", table, re.MULTILINE)) == set(IDEAS)


def test_a_ratio_is_of_medians_and_a_target_is_of_it() -> None:
    assert [TABLE.ratio(row) for row in TABLE.rows] == [None, 0.5, 2.0, None, None]
    assert [TABLE.met(row) for row in TABLE.rows] == [None, False, True, False, None]
    assert SAMPLE.spread == 3.5
    assert report.verdict([TABLE]) == "1 targets met, 2 missed, 1 not measured."


def test_a_report_is_read_as_it_was_written() -> None:
    written = Report.of([TABLE])
    assert Report.read(written.json()) == written
    assert json.loads(written.json())["tables"][0]["rows"][1]["met"] is False


def test_what_was_missed_and_what_was_not_measured_says_why() -> None:
    assert "missed: the weather" in report.text(TABLE)
    assert "not measured: no device" in report.text(TABLE)
    shown = Report.of([TABLE]).markdown("plots")
    assert "| half | 2.00 | 0.00 | 0.50 | <= 0.4: missed: the weather |" in shown
    assert "![picture](plots/stem.svg)" in shown
    assert "stem" not in Report.of([TABLE]).markdown("")


def test_a_server_is_gone_after_its_block_even_if_that_fails() -> None:
    def fail_while_it_runs() -> None:
        with servers.floor(3, 2) as server, Connection(server.port) as raw:
            raw.send(b"abc")
            raw.receive(1)
            raise KeyError(server.process_id)

    with pytest.raises(KeyError) as raised:
        fail_while_it_runs()
    with pytest.raises(ProcessLookupError):
        os.kill(raised.value.args[0], 0)


def test_a_refusal_is_told_in_the_words_of_the_service() -> None:
    with (
        servers.xent(body_bytes=10) as service,
        Connection(service.port) as http,
        pytest.raises(Refused, match=r"413 .*: .*10"),
    ):
        http.exchange(post("/loss/sparse", b" " * 11, "application/json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "ideas",
    [
        ["core-wide", "variants", "growth", "cuda"],
        ["transfer", "json"],
        ["tracked"],
    ],
    ids=" ".join,
)
def test_tables_are_made(ideas: list[str], tmp_path: Path) -> None:
    assert set(ideas) <= set(IDEAS)
    raw = tmp_path / "raw.json"
    command = ["-m", "benchmarks", "--quick", "--json", str(raw), *ideas]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = Report.read(raw.read_text())
    assert len(found.tables) == len(ideas)
    assert all(table.title in done.stdout for table in found.tables)


@pytest.mark.slow
def test_no_batch_is_lost_or_counted_twice_by_a_kill() -> None:
    table = IDEAS["kills"](quick=True)
    assert isinstance(table, Table)
    assert all(table.met(row) for row in table.rows if row.target)
