"""What Grafana is given: its files, against the API's description and against real answers."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from demo.client import Client
from demo.digits import train
from demo.history import remember
from service.settings import Settings
from tests.deploy.infinity import (
    PLUGIN,
    Document,
    Query,
    filled,
    parameters_of,
    path_of,
    queries,
    variables_in,
)
from tests.service.harness import Running

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy/grafana"
DASHBOARDS: dict[str, Document] = {
    path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("dashboards/*.json"))
}
OPENAPI: Document = json.loads((ROOT / "openapi/openapi.json").read_text())
COMPOSE: Document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CONTAINER: Document = COMPOSE["services"]["grafana"]
QUERIES = [query for dashboard in DASHBOARDS.values() for query in queries(dashboard)]
SOURCES: list[Document] = yaml.safe_load(
    (GRAFANA / "provisioning/datasources/xent.yml").read_text()
)["datasources"]
NUMBERS = {"integer", "number"}


def default_of(variable: str) -> str:
    """Return what compose takes where the environment says nothing."""
    found = re.fullmatch(r"\$\{\w+:-(.*)\}", variable)
    assert found
    return found[1]


def test_there_are_two_dashboards_with_addresses_that_stay() -> None:
    assert {name: each["uid"] for name, each in DASHBOARDS.items()} == {
        "losses": "xent-losses",
        "operations": "xent-operations",
    }
    links = [link["url"] for each in DASHBOARDS.values() for link in each["links"]]
    assert set(links) == {f"/d/{each['uid']}" for each in DASHBOARDS.values()}


def test_data_sources_are_the_containers_and_ask_nobody_else() -> None:
    prometheus, xent = SOURCES
    assert {each["uid"] for each in SOURCES} == {"xent-prometheus", "xent-history"}
    assert not any(each["editable"] for each in SOURCES)
    assert prometheus["url"] == "http://prometheus:9090"
    assert "prometheus" in COMPOSE["services"]
    address = default_of(CONTAINER["environment"]["XENT_URL"])
    assert re.fullmatch(r"http://(\w+):8000", address)
    assert address.removeprefix("http://").partition(":")[0] in COMPOSE["services"]
    assert xent["type"] == PLUGIN
    assert xent["url"] == "$XENT_URL"
    assert xent["jsonData"]["allowedHosts"] == [xent["url"]]


def test_files_lie_where_grafana_looks() -> None:
    mounts = dict(mount.split(":")[:2] for mount in CONTAINER["volumes"])
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/xent.yml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] == mounts["./deploy/grafana/dashboards"]
    home = Path(CONTAINER["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert home.stem in DASHBOARDS


def test_containers_are_confined_pinned_and_on_loopback() -> None:
    for name, each in COMPOSE["services"].items():
        assert each["read_only"], name
        assert each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name
        assert all(port.startswith("127.0.0.1:") for port in each.get("ports", ())), name
        assert "build" in each or re.search(r":v?\d+\.\d+", each["image"]), name
    plugin, version = CONTAINER["environment"]["GF_PLUGINS_PREINSTALL_SYNC"].split("@")
    assert plugin == PLUGIN
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)


def test_there_is_no_secret_and_nobody_who_could_log_in() -> None:
    environment = CONTAINER["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    named = {
        name: value
        for each in COMPOSE["services"].values()
        for name, value in each.get("environment", {}).items()
        if re.search("PASSWORD|SECRET|TOKEN|DATABASE_URL", name)
    }
    assert named.keys() == {"POSTGRES_PASSWORD", "XENT_DATABASE_URL"}
    assert {default_of(value) for value in named.values()} == {""}


def test_settings_of_the_containers_exist() -> None:
    built = [each for each in COMPOSE["services"].values() if "build" in each]
    names = {name for each in built for name in each["environment"]}
    assert {name.removeprefix("XENT_").lower() for name in names} <= set(Settings.model_fields)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_places_and_numbers_of_their_own(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_data_sources_and_variables_that_are_used_are_there(name: str) -> None:
    dashboard = DASHBOARDS[name]
    known = {(each["type"], each["uid"]) for each in SOURCES}
    used = list(found(dashboard, "datasource"))
    assert used
    assert {(each["type"], each["uid"]) for each in used} <= known
    variables = {each["name"] for each in dashboard["templating"]["list"]}
    texts = [
        text
        for key in ("expr", "url", "title", "definition", "repeat")
        for text in found(dashboard, key)
    ]
    asked = {name for text in texts for name in variables_in(text) if not name.startswith("__")}
    assert asked - {"columns", "row"} <= variables
    assert {panel["repeat"] for panel in dashboard["panels"] if "repeat" in panel} <= variables


def found(document: object, key: str) -> Iterator[Any]:
    """Yield every value of a key, wherever it stands."""
    if isinstance(document, dict):
        if key in document:
            yield document[key]
        for each in document.values():
            yield from found(each, key)
    elif isinstance(document, list):
        for each in document:
            yield from found(each, key)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.where)
def test_queries_are_read_in_the_background_of_this_api_alone(query: Query) -> None:
    assert query.document["source"] == "url"
    assert query.document["parser"].endswith("backend")
    assert query.url.startswith("/")
    assert query.document["url_options"]["method"] == "GET"


def operation(query: Query) -> Document:
    """Return the operation of the API that a query asks."""
    path = path_of(query.url)
    for template, operations in OPENAPI["paths"].items():
        parts = template.split("/")
        if len(parts) == len(path) and all(
            part == given or part.startswith("{") for part, given in zip(parts, path, strict=True)
        ):
            asked: Document = operations["get"]
            return asked
    raise AssertionError(f"the API has no {query.url}")


def resolved(schema: Document) -> Document:
    """Return what a schema refers to; of a schema or null, the schema."""
    if "$ref" in schema:
        named: Document = OPENAPI["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return resolved(named)
    if "anyOf" in schema:
        (one, *_) = [each for each in schema["anyOf"] if each != {"type": "null"}]
        return resolved(one)
    return schema


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.where)
def test_parameters_are_those_of_the_api(query: Query) -> None:
    known = {each["name"]: each["schema"] for each in operation(query).get("parameters", ())}
    for name, value in parameters_of(query.url):
        assert name in known, f"{name} is no parameter of {query.url}"
        allowed = resolved(known[name]).get("enum")
        assert not value or allowed is None or value in allowed


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.where)
def test_columns_are_those_of_the_api(query: Query) -> None:
    answer = operation(query)["responses"]["200"]["content"]["application/json"]["schema"]
    how, name = query.root
    schema = resolved(answer)
    if how != "whole":
        schema = resolved(schema["properties"][name])
    if how == "rows":
        schema = resolved(schema["items"])
    keys = {value for name, value in parameters_of(query.url) if name == "by"}
    for column in query.columns:
        kind = kind_of(schema, column["selector"], keys, columnar=how == "columns")
        assert kind == {"timestamp": "string"}.get(column["type"], column["type"])


def kind_of(schema: Document, selector: str, keys: set[str], *, columnar: bool) -> str:
    """Return "number", "string" or whatever else the API says that a column holds."""
    for part in selector.split("."):
        if part in keys and part not in schema["properties"]:
            return "string"
        schema = resolved(schema["properties"][part])
    kind = resolved(schema["items"])["type"] if columnar else schema["type"]
    return "number" if kind in NUMBERS else str(kind)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that remembers the demo's month."""
    server = Running(data_dir=tmp_path_factory.mktemp("data"))
    try:
        client = Client(f"http://127.0.0.1:{server.port}")
        remember(client, train())
        client.close()
        yield server
    finally:
        server.stop()


def test_every_query_is_answered_with_the_columns_that_it_takes(history: Running) -> None:
    values = {"__timeFrom": ["2000-01-01T00:00:00.000Z"], "__timeTo": ["2100-01-01T00:00:00.000Z"]}
    for query in queries(DASHBOARDS["losses"]):
        answer = history.client.get(filled(query.url, values))
        assert answer.status_code == 200, f"{query.where}: {answer.text}"
        rows = query.rows(answer.json())
        assert rows, query.where
        for column in query.columns:
            *outer, last = column["selector"].split(".")
            for row in rows:
                inner = row
                for part in outer:
                    inner = inner[part]
                assert last in inner, f"{query.where}: {column['selector']}"
        choose(query, rows, values)


def choose(query: Query, rows: list[Document], values: dict[str, list[str]]) -> None:
    """Take what a dashboard shows at first: all versions, of the others the first."""
    kind, _, name = query.where.partition(" ")
    if kind == "variable":
        (variable,) = (
            each for each in DASHBOARDS["losses"]["templating"]["list"] if each["name"] == name
        )
        chosen = sorted(row[query.columns[-1]["selector"]] for row in rows)
        if variable["sort"] == 0:
            chosen = [row[query.columns[-1]["selector"]] for row in rows]
        values[name] = chosen if variable["multi"] else [chosen[-1 if variable["sort"] == 2 else 0]]
