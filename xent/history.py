"""Questions to the history of a project, and what it answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self, TypedDict, TypeVar, Unpack
from urllib.parse import quote

from xent.alerts import Alerts, project_path
from xent.bodies import Body
from xent.calls import JSON, Call, Reply
from xent.errors import Unreadable
from xent.exports import FORMATS, Export, Format, writing
from xent.operations import operation
from xent.tables import Table
from xent.tracking import rfc3339

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Texts = str | Sequence[str]
Moment = datetime | str | int
"""With an offset from UTC; as text in RFC 3339, as number in milliseconds since 1970."""

Metric = str
"""A metric of the history: ``loss.mean``, ``accuracy``, ... ; ``options("metric")`` lists them."""

R = TypeVar("R", bound="Report")
NAMES: Final = {
    "since": "from",
    "until": "to",
    "reference_since": "reference_from",
    "reference_until": "reference_to",
    "baseline_since": "baseline_from",
    "baseline_until": "baseline_to",
    "candidate_since": "candidate_from",
    "candidate_until": "candidate_to",
}
"""What is called otherwise on the wire: ``from`` is a word of Python's own."""


class Selection(TypedDict, total=False):
    """Which series, and which time: [since, until). Several values are alternatives."""

    model: Texts
    model_version: Texts
    variant: Texts
    settings: Texts
    """Hashes of settings, as ``series()`` lists them."""

    label_schema: Texts
    """``name`` or ``name@version``."""

    tags: Mapping[str, Texts]
    since: Moment | None
    until: Moment | None


class Referring(Selection, total=False):
    """A selection, and another time of the same series that it is held against."""

    reference_since: Moment | None
    reference_until: Moment | None


class Sides(Selection, total=False):
    """A selection that both sides of a comparison share, and the time of each."""

    baseline_since: Moment | None
    baseline_until: Moment | None
    candidate_since: Moment | None
    candidate_until: Moment | None


@dataclass(frozen=True, slots=True)
class Report:
    """An answer of the history.

    Attributes:
        table: its rows.
        raw: the answer as it came.
    """

    table: Table
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, document: Mapping[str, Any], rows: str) -> Self:
        """Return the answer whose member ``rows`` is a table.

        Raises:
            Unreadable: it has no such member.
        """
        found = document.get(rows)
        if isinstance(found, Mapping):
            return cls(
                Table({key: each for key, each in found.items() if each is not None}), document
            )
        if isinstance(found, list):
            return cls(Table.of_rows([_flat(each) for each in found]), document)
        raise Unreadable(f"the answer has no {rows}: is the service of another version?")

    @property
    def revision(self) -> int | None:
        """The project's; it grows with every batch."""
        revision: int | None = self.raw.get("revision")
        return revision

    def json(self) -> dict[str, Any]:
        """Return the answer as it came."""
        return dict(self.raw)

    def to_pandas(self) -> "pd.DataFrame":
        """Return the rows as a dataframe, times as such, in UTC.

        Raises:
            Missing: pandas is not installed.
        """
        frame = self.table.to_pandas()
        import pandas as pd  # noqa: PLC0415  (there: the line above needs it)

        for name in _TIMES & set(frame.columns):
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
        return frame

    def to_polars(self) -> "pl.DataFrame":
        """Return the rows as a dataframe, times as such, in UTC.

        Raises:
            Missing: polars is not installed.
        """
        frame = self.table.to_polars()
        import polars as pl  # noqa: PLC0415  (there: the line above needs it)

        times = [
            pl.col(name).str.to_datetime(time_zone="UTC")
            for name, kind in frame.schema.items()
            if name in _TIMES and kind == pl.String
        ]
        return frame.with_columns(times)


_TIMES: Final = frozenset({"time", "first", "last", "from", "to"})


@dataclass(frozen=True, slots=True)
class TimeSeries(Report):
    """A metric over time: columns ``time``, those of ``by``, ``value``, ``low``, ``high``,
    ``status`` and ``rows``.

    ``status`` is ok, low_n, empty, partial or nonfinite; where it is empty there is no value.
    """  # noqa: D205  (a sentence that needs two lines)

    @property
    def metric(self) -> str:
        """What is told."""
        return str(self.raw["metric"])

    @property
    def unit(self) -> str:
        """Of the values."""
        return str(self.raw["unit"])

    @property
    def by(self) -> tuple[str, ...]:
        """What lines are told apart by."""
        return tuple(self.raw["by"])

    @property
    def step_s(self) -> int:
        """Seconds of a bucket."""
        return int(self.raw["step_s"])

    def lines(self) -> dict[tuple[str | None, ...], list[dict[str, Any]]]:
        """Return the rows of each line, oldest first, by the values that tell it apart."""
        found: dict[tuple[str | None, ...], list[dict[str, Any]]] = {}
        for row in self.table.rows():
            found.setdefault(tuple(row[name] for name in self.by), []).append(row)
        return found


@dataclass(frozen=True, slots=True)
class Judgement(Report):
    """A candidate against a baseline; the rows are the classes.

    ``verdict`` is worse, better, no_difference, insufficient or not_comparable.
    """

    @property
    def verdict(self) -> str:
        """In one word."""
        return str(self.raw["verdict"])

    @property
    def sentence(self) -> str:
        """In one sentence."""
        return str(self.raw["sentence"])

    @property
    def comparable(self) -> bool:
        """Whether both are of the same unit."""
        return bool(self.raw["comparable"])

    @property
    def difference(self) -> float | None:
        """Mean loss of the candidate less that of the baseline."""
        difference: float | None = self.raw["difference"]
        return difference

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """Where the difference lies, at the confidence that ``raw["alpha"]`` leaves."""
        return self.raw["low"], self.raw["high"]

    @property
    def p(self) -> float | None:
        """How probable so large a difference is where there is none."""
        p: float | None = self.raw["p"]
        return p


class Queries(Alerts):
    """The operations on one project."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @operation
    def series(self, **selection: Unpack[Selection]) -> Call[Report]:
        """Return the series, a row each: model, version, variant, settings, how many rows."""
        return self._get("series", "series", Report, selection)

    @operation
    def timeseries(
        self,
        metric: Metric = "loss.mean",
        *,
        by: Texts = (),
        classes: Texts = (),
        step: str = "auto",
        max_points: int | None = None,
        min_rows: int | None = None,
        **selection: Unpack[Selection],
    ) -> Call[TimeSeries]:
        """Return a metric over time.

        Args:
            metric: what is told; ``options("metric")`` lists what there is.
            by: one line for each: ``model_version``, ``variant``, ``class``, ``tag.<key>``, ...
            classes: with ``by="class"``: names, indices or ``top:10``.
            step: of a bucket: ``15m``, ``6h``, ``1d`` or ``auto``.
            max_points: most buckets of ``auto``.
            min_rows: with fewer rows a bucket is ``low_n``.
            selection: which series, and which time.
        """
        asked = {
            "metric": metric,
            "by": by,
            "class": classes,
            "step": step,
            "max_points": max_points,
            "min_rows": min_rows,
        }
        return self._get("timeseries", "rows", TimeSeries, selection, asked)

    @operation
    def compare(
        self,
        baseline: str | None = None,
        candidate: str | None = None,
        *,
        alpha: float | None = None,
        **selection: Unpack[Sides],
    ) -> Call[Judgement]:
        """Return whether a candidate is worse than a baseline, and how sure that is.

        Args:
            baseline: ``model_version:NAME``, ``model:NAME`` or ``tag.KEY:VALUE``; ``None`` where
                a time tells the sides apart.
            candidate: as ``baseline``.
            alpha: level of the tests; the service's is 0.05.
            selection: what both have in common, and the time of each.
        """
        asked = {"baseline": baseline, "candidate": candidate, "alpha": alpha}
        return self._get("compare", "per_class", Judgement, selection, asked)

    @operation
    def classes(
        self,
        *,
        classes: Texts = (),
        step: str | None = None,
        max_points: int | None = None,
        **selection: Unpack[Referring],
    ) -> Call[Report]:
        """Return what each class has to do with the loss, a row each, the largest sum first.

        Args:
            classes: names, indices or ``top:10``.
            step: asks for the classes over time too: ``15m``, ``6h``, ``1d`` or ``auto``; they are
                in ``raw["map"]``.
            max_points: most buckets of ``auto``.
            selection: which series, which time, and perhaps a time to refer to.
        """
        asked = {"class": classes, "step": step, "max_points": max_points}
        return self._get("classes", "rows", Report, selection, asked)

    @operation
    def hardest(self, *, limit: int | None = None, **selection: Unpack[Selection]) -> Call[Report]:
        """Return the rows of largest loss, the largest first."""
        return self._get("hardest", "rows", Report, selection, {"limit": limit})

    @operation
    def calibration(self, **selection: Unpack[Referring]) -> Call[Report]:
        """Return confidence against accuracy, a row for each bin; ``raw`` has the rest."""
        return self._get("calibration", "bins", Report, selection)

    @operation
    def histogram(self, **selection: Unpack[Referring]) -> Call[Report]:
        """Return how many rows have which loss, a row for each bucket; ``raw`` has the rest."""
        return self._get("histogram", "buckets", Report, selection)

    @operation
    def annotations(self, **selection: Unpack[Selection]) -> Call[Report]:
        """Return what happened, the latest first: new versions, corrections, alerts, notes."""
        return self._get("annotations", "annotations", Report, selection)

    @operation
    def note(
        self, text: str, *, time: Moment | None = None, series: str | None = None
    ) -> Call[dict[str, Any]]:
        """Write a note down; ``time`` ``None`` is now. Returns it with its ``id``."""
        said: dict[str, object] = {"text": text, "time": _moment(time or datetime.now(UTC))}
        if series is not None:
            said["series"] = series
        return Call(
            "POST",
            self._path("annotations"),
            Reply.json,
            body=Body.of(JSON, [json.dumps(said).encode()]),
            idempotent=False,
        )

    @operation
    def remove_note(self, note: str | int) -> Call[None]:
        """Forget a note by the ``id`` that it was given. Raises ``NotFound`` for any other."""
        path = self._path(f"annotations/{quote(str(note), safe='')}")
        return Call("DELETE", path, lambda _: None, idempotent=False)

    @operation
    def options(self, dimension: str) -> Call[Report]:
        """Return the values that a selection may have: of ``model_version``, ``metric``, ..."""
        return self._get(f"options/{quote(dimension, safe='')}", "options", Report, {})

    @operation
    def export(
        self,
        format: Format = "parquet",  # noqa: A002
        **selection: Unpack[Selection],
    ) -> Call[Export]:
        """Return all batches, a row each, as the bytes of a file.

        Args:
            format: parquet, csv or jsonl.
            selection: which series, and which time.
        """
        return Call(
            "GET",
            self._path("export"),
            lambda reply: Export(format, bytes(reply.body)),
            query=_query(selection, {"format": format}),
        )

    @operation
    def download(
        self,
        file: "str | Path | IO[bytes]",
        format: Format | None = None,  # noqa: A002
        **selection: Unpack[Selection],
    ) -> Call[int]:
        """Write all batches into a file while they come; return how many bytes it has.

        Args:
            file: a path, or a file open for bytes.
            format: ``None`` takes it from the path's suffix, else parquet.
            selection: which series, and which time.
        """
        suffix = "" if not isinstance(file, str | Path) else Path(file).suffix.removeprefix(".")
        chosen = format or (suffix if suffix in FORMATS else "parquet")
        sink = writing(file)
        return Call(
            "GET",
            self._path("export"),
            lambda _: sink.done(),
            query=_query(selection, {"format": chosen}),
            sink=sink.open,
        )

    def _get(
        self,
        route: str,
        rows: str,
        kind: type[R],
        selection: Mapping[str, Any],
        asked: Mapping[str, Any] | None = None,
    ) -> Call[R]:
        def read(reply: Reply) -> R:
            return kind.read(reply.json(), rows)

        query = _query(selection, asked or {})
        return Call("GET", self._path(route), read, query=query, remembered=True)

    def _path(self, route: str) -> str:
        return project_path(self.name, route)


def _query(selection: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Return the parameters of a URL; what is not said is left out."""
    given = {
        NAMES.get(name, name): _moment(value) if name in NAMES else value
        for name, value in selection.items()
        if name != "tags"
    }
    tags = {f"tag.{key}": value for key, value in (selection.get("tags") or {}).items()}
    return {
        name: value if isinstance(value, str) else _texts(value)
        for name, value in {**given, **tags, **asked}.items()
        if value is not None and value != ()
    }


def _texts(value: object) -> str | list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else str(value)


def _moment(time: Moment | None) -> str | None:
    if time is None or isinstance(time, int):
        return None if time is None else str(time)
    return rfc3339(time, "a time")


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose objects are columns of their own: ``label_schema.name``."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping) and name == "label_schema":
            found |= {f"{name}.{key}": each for key, each in value.items()}
        else:
            found[name] = value
    return found
