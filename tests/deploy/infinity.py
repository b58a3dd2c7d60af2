"""What Grafana's Infinity plugin does with a query, as far as the dashboards make use of it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

PLUGIN: Final = "yesoreyeram-infinity-datasource"
Document = dict[str, Any]
Values = Mapping[str, list[str]]

_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::([^}]*))?\}")
# jq: a table of columns as a list of rows.
_COLUMNAR: Final = re.compile(
    r"\.(\w+) as \$columns \| "
    r"\[range\(\$columns\.\w+ \| length\) as \$row \| \$columns \| map_values\(\.\[\$row\]\)\]"
)
_WHOLE: Final = "[.]"  # jq: the document as the only row


@dataclass(frozen=True)
class Query:
    """A query of a dashboard, and where it stands."""

    where: str
    document: Document

    @property
    def url(self) -> str:
        """What is asked, with Grafana's variables."""
        url: str = self.document["url"]
        return url

    @property
    def columns(self) -> list[Document]:
        """What is taken of every row."""
        columns: list[Document] = self.document["columns"]
        return columns

    @property
    def root(self) -> tuple[str, str]:
        """What the rows are: how they lie there, and under which name."""
        selector, parser = self.document["root_selector"], self.document["parser"]
        columnar = _COLUMNAR.fullmatch(selector)
        if parser == "jq-backend" and columnar:
            return "columns", columnar[1]
        if parser == "jq-backend" and selector == _WHOLE:
            return "whole", ""
        assert parser == "backend"
        assert re.fullmatch(r"\w+", selector), selector
        return "rows", selector

    def rows(self, answer: Document) -> list[Document]:
        """Return the rows of an answer."""
        how, name = self.root
        if how == "whole":
            return [answer]
        found = answer[name]
        if how == "rows":
            rows: list[Document] = found
            return rows
        return [
            dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)
        ]


def queries(dashboard: Document) -> Iterator[Query]:
    """Yield the queries of variables, in their order, then those of annotations and panels."""
    for variable in dashboard["templating"]["list"]:
        if variable["datasource"]["type"] == PLUGIN:
            yield Query(f"variable {variable['name']}", variable["query"]["infinityQuery"])
    for annotation in dashboard["annotations"]["list"]:
        yield Query(f"annotation {annotation['name']}", annotation["target"])
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            if target["datasource"]["type"] == PLUGIN:
                yield Query(f"panel {panel['title']}", target)


def variables_in(text: str) -> set[str]:
    """Return the names of variables; Grafana's own start with two underscores."""
    return {name for name, _ in _VARIABLE.findall(text)} | set(re.findall(r"\$(\w+)", text))


def path_of(url: str) -> list[str | None]:
    """Return the segments of a path; ``None`` for one that is a variable."""
    path = urlsplit(url).path
    return [None if _VARIABLE.fullmatch(part) else part for part in path.split("/")]


def parameters_of(url: str) -> list[tuple[str, str]]:
    """Return names and values of query parameters; "" for a value with a variable in it."""

    def plain(match: re.Match[str]) -> str:
        how = (match[2] or "").split(":")
        return f"{how[1]}=" if how[0] == "customqueryparam" else ""

    query = urlsplit(_VARIABLE.sub(plain, url)).query
    return parse_qsl(query, keep_blank_values=True)


def filled(url: str, values: Values) -> str:
    """Return an address with the values of variables in it."""

    def value(match: re.Match[str]) -> str:
        chosen, (how, *more) = values[match[1]], (match[2] or "raw").split(":")
        if how == "customqueryparam":
            return "&".join(f"{more[0]}={quote(each, safe='')}" for each in chosen)
        (only,) = chosen
        assert how in ("percentencode", "date")
        return quote(only, safe="") if how == "percentencode" else only

    return _VARIABLE.sub(value, url)
