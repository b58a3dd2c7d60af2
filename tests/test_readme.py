"""What README.md says is true: its tables, its map, its commands, its snippets and their output."""

import contextlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from service.problems import KINDS
from service.settings import Scope, Settings
from tests.service.harness import Running
from xent import configuration
from xent.command.app import app
from xentcore import LABEL_KINDS, OUTPUTS, VARIANTS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
ADDRESS = "127.0.0.1:8000"
CLIENT_CLOSED = 499  # never sent


@dataclass(frozen=True)
class Block:
    """A fenced block, and the one that stands directly below it, if any."""

    language: str
    text: str
    below: "Block | None"


def blocks() -> list[Block]:
    """Return the fenced blocks of the README."""
    fences = list(re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
    found: list[Block] = []
    end = len(README)
    for fence in reversed(fences):
        near = found and not README[fence.end() : end].strip()
        found.append(Block(fence[1], fence[2], found[-1] if near else None))
        end = fence.start()
    return found[::-1]


BLOCKS = blocks()
CURLS = [block for block in BLOCKS if block.text.startswith("curl ")]
SNIPPETS = [block for block in BLOCKS if block.language == "python"]
COMMANDS = [
    line.split("  #")[0].strip()
    for block in BLOCKS
    if block.language == "bash" and block not in CURLS
    for line in block.text.splitlines()
]
MENTIONED = re.findall(r"`((?:make|python -m) [^`]+)`", README + CONTRIBUTING)


def between(marker: str) -> str:
    """Return what stands between a marker and its end."""
    return README.split(f"<!-- {marker} -->\n")[1].split(f"<!-- /{marker} -->")[0]


def column(title: str, number: int = 0) -> list[str]:
    """Return a column of the table whose first title is given."""
    table = README.split(f"\n| {title} |")[1].split("\n\n")[0].splitlines()[2:]
    return [line.split(" | ")[number].removeprefix("| ").strip() for line in table]


def names(cells: list[str]) -> list[str]:
    """Return what cells hold between backquotes."""
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a real server listens."""
    server = Running(data_dir=tmp_path_factory.mktemp("data"))
    yield f"127.0.0.1:{server.port}"
    server.stop()


def test_the_table_of_variants_is_the_registry() -> None:
    lines = ["| variant | family | loss | gradient | source |", "|---|---|---|---|---|"]
    for variant in VARIANTS.values():
        families = ", ".join(variant.families)
        cells = [f"`{variant.slug}`", families, f"`{variant.formula}`", f"`{variant.gradient}`"]
        lines.append(f"| {' | '.join([*cells, variant.source])} |")
    assert between("variants") == "\n".join([*lines, ""])


def mapped() -> dict[str, list[str]]:
    """Return the map of folders: what it names in each, "" for the top."""
    found: dict[str, list[str]] = {"": []}
    here = ""
    for line in between("map").split("```\n")[1].splitlines():
        name = line.split()[0]
        if line.startswith(" "):
            found[here].append(name)
        else:
            here = name
            found[""].append(name)
            found[here] = []
    return {folder: sorted(entries) for folder, entries in found.items() if entries}


@pytest.mark.parametrize("folder", mapped())
def test_the_map_of_folders_is_the_tree(folder: str) -> None:
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    ignored |= {".git", "__init__.py"}
    there = [
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / folder).iterdir()
        if path.name not in ignored and (folder or path.is_dir())
    ]
    assert mapped()[folder] == sorted(there)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@pytest.mark.parametrize("curl", CURLS, ids=lambda curl: curl.text.split()[2][21:])
def test_every_curl_is_answered_as_printed(curl: Block, address: str) -> None:
    command = curl.text.replace(ADDRESS, address)
    assert command != curl.text
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, timeout=100, check=True
    )
    answer = json.loads(done.stdout)
    if curl.below is None:
        assert "detail" not in answer, "a problem"
    else:
        assert rounded(answer) == expected(curl.below)


def expected(block: Block) -> object:
    """Return the document that a block prints."""
    return rounded(json.loads(block.text))


def rounded(value: object) -> object:
    """Return a document whose numbers are rounded: processors differ in the last digit."""
    document: object = json.loads(json.dumps(value), parse_float=lambda text: f"{float(text):.9g}")
    return document


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_every_snippet_prints_what_stands_below_it(snippet: Block, address: str) -> None:
    assert snippet.below is not None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(snippet.text.replace(ADDRESS, address), {})  # noqa: S102  (our own README)
    assert printed.getvalue() == snippet.below.text


@pytest.mark.parametrize("command", [*COMMANDS, *MENTIONED])
def test_every_command_exists(command: str) -> None:
    program, *words = command.split()
    if program == "make":
        assert {word for word in words if "=" not in word} <= TARGETS
    elif program == "python":
        assert (ROOT / words[1].replace(".", "/") / "__main__.py").exists()
    elif program == "xent":
        callbacks = [getattr(each.callback, "__name__", "") for each in app.registered_commands]
        known = [name.replace("_", "-") for name in callbacks]
        assert words[0] in known
    else:
        assert command.startswith("docker compose ")
        services = set(re.findall(r"^  ([a-z-]+):$", COMPOSE, re.MULTILINE))
        asked = [word for word in words if word not in ("compose", "up", "--profile", "gpu")]
        assert set(asked) <= services


def test_the_start_is_serve_test_and_demo() -> None:
    assert COMMANDS[:3] == ["make serve", "make test", "make demo"]


def test_every_setting_that_is_named_exists() -> None:
    named = set(re.findall(r"\bXENT_([A-Z_]+)\b", README + CONTRIBUTING))
    clients = {name.removeprefix("XENT_") for name in (configuration.URL, configuration.KEY)}
    assert {name.lower() for name in named - clients} <= set(Settings.model_fields)


def test_the_defaults_in_the_table_of_settings_are_those_of_the_service() -> None:
    settings = names(column("variable"))
    stated = dict(zip(settings, column("variable", 1), strict=True))
    plain = {name: text.strip("`") for name, text in stated.items() if text.startswith("`")}
    defaults = {
        name: str(Settings.model_fields[name.removeprefix("XENT_").lower()].default)
        for name in plain
    }
    assert plain == defaults
    assert all(scope in README for scope in get_args(Scope))


def test_the_tables_of_labels_outputs_and_statuses_are_complete() -> None:
    assert names(column("`label_kind`")) == list(LABEL_KINDS)
    assert names(column("output")) == list(OUTPUTS)
    statuses = {int(status) for cell in column("status") for status in cell.split(",")}
    assert statuses == {kind.status for kind in KINDS.values()} - {CLIENT_CLOSED}


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^):]+)\)", README + CONTRIBUTING)
    assert links
    assert all((ROOT / link).exists() for link in links)


def test_the_changelog_knows_every_variant_and_the_version() -> None:
    unknown = [slug for slug in VARIANTS if f"`{slug}`" not in CHANGELOG]
    assert not unknown
    version = re.search(r'^version = "(.+)"$', PYPROJECT, re.MULTILINE)
    assert version is not None
    assert "## [Unreleased]" in CHANGELOG or f"## [{version[1]}]" in CHANGELOG


def test_contributing_names_places_that_are_there() -> None:
    places = re.findall(r"`((?:xentcore|tests|service)/[\w/.]*)`", CONTRIBUTING)
    assert places
    assert all((ROOT / place).exists() for place in places)
