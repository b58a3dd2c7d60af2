"""``xent watch`` and ``xent export``: what the history remembers."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.live import Live
from rich.table import Table as Shown
from rich.text import Text

from xent.client import Client
from xent.command import exits, show
from xent.command.losses import Json, Url
from xent.errors import InvalidBatch, XentError
from xent.exports import FORMATS
from xent.history import TimeSeries

TREND: Final = 40  # buckets that a line of bars shows
COLOURS: Final = {"ok": "green", "partial": "cyan", "low_n": "yellow", "nonfinite": "red"}

Project = Annotated[str, typer.Argument(help="A project of the history.")]
Since = Annotated[
    str | None, typer.Option(help="Not before: RFC 3339 with an offset, or ms since 1970.")
]
Until = Annotated[str | None, typer.Option(help="Before: as --since.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="Of this model; several.")]
Variants = Annotated[list[str] | None, typer.Option("--variant", help="Several.")]


def watch(  # noqa: PLR0913  (the options of the command)
    project: Project,
    *,
    metric: Annotated[str, typer.Option(help="What is shown.")] = "loss.mean",
    by: Annotated[
        str, typer.Option(help="One line for each; with commas.")
    ] = "model,model_version,variant,settings",
    step: Annotated[str, typer.Option(help="Length of a bucket: 15m, 6h, 1d or auto.")] = "auto",
    since: Since = None,
    model: Models = None,
    variant: Variants = None,
    every_s: Annotated[
        float, typer.Option("--every", help="Seconds between two looks.", min=0.1)
    ] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Watch the losses of a project. What has not changed is not sent again.

    With --json: a document in one line whenever something changed.
    """
    selection = _selection(since=since, model=model, variant=variant)
    with Client(url) as client:

        def look() -> TimeSeries:
            asked = client.project(project).timeseries
            return asked(metric, by=by.split(","), step=step, max_points=TREND, **selection)

        if as_json:
            _follow_json(look, every_s, once=once)
        elif once:
            show.console().print(_picture(project, look()))
        else:
            _follow(project, look, every_s)


def export(  # noqa: PLR0913  (the options of the command)
    project: Project,
    *,
    format: Annotated[  # noqa: A002  (the option's name)
        str | None, typer.Option("--format", help="parquet, csv or jsonl.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="A file, - for the standard output.")
    ] = None,
    since: Since = None,
    until: Until = None,
    model: Models = None,
    variant: Variants = None,
    url: Url = None,
) -> None:
    """Write what the history remembers of a project, a row for each batch."""
    suffix = Path(output or "").suffix.removeprefix(".")
    chosen: Any = format or (suffix if suffix in FORMATS else "parquet")
    if chosen not in FORMATS:
        raise InvalidBatch(f"--format {chosen}: one of {', '.join(FORMATS)}")
    path = output or f"{project}.{chosen}"
    selection = _selection(since=since, until=until, model=model, variant=variant)
    with Client(url) as client:
        history = client.project(project)
        if path == "-":
            history.download(sys.stdout.buffer, chosen, **selection)
            sys.stdout.buffer.flush()
            return
        try:
            size = history.download(Path(path), chosen, **selection)
        except OSError as error:
            raise InvalidBatch(f"{path}: {error.strerror or error}") from None
    show.console(stderr=True).print(Text(f"{path}: {size:,} bytes"))


def _selection(**given: Any) -> Any:  # noqa: ANN401  (a Selection)
    return {
        name: int(value) if isinstance(value, str) and value.isdecimal() else value
        for name, value in given.items()
        if value
    }


def _follow_json(look: Any, every_s: float, *, once: bool) -> None:  # noqa: ANN401
    last = None
    while True:
        found = look()
        # Unchanged, the client gives back the very object that it gave before.
        if found is not last:
            show.as_json(found.json())
            sys.stdout.flush()
        if once:
            return
        last = found
        time.sleep(every_s)


def _follow(project: str, look: Any, every_s: float) -> None:  # noqa: ANN401
    with Live(_picture(project, look()), console=show.console(), auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            try:
                live.update(_picture(project, look()), refresh=True)
            except XentError as error:
                if exits.code_of(error) != exits.AWAY:
                    raise
                # A service that restarts is not the end of watching.
                live.update(Text(exits.line_of(error), style="red"), refresh=True)


def _picture(project: str, found: TimeSeries) -> Shown:
    said = f"{project}: {found.metric} ({found.unit}), revision {found.revision}"
    now = datetime.now(UTC).strftime("%H:%M:%S UTC")
    shown = Shown(title=Text(f"{said}, {now}"), title_justify="left", box=None)
    for name in found.by:
        shown.add_column(name, no_wrap=True)
    for name in ("now", "interval", "before", "rows", "status"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("trend", no_wrap=True)
    for keys, rows in found.lines().items():
        there = [row for row in rows if row["value"] is not None]
        if not there:
            continue
        last, before = there[-1], there[-2]["value"] if len(there) > 1 else None
        interval = f"{show.number(last['low'])} .. {show.number(last['high'])}"
        shown.add_row(
            *(Text("-" if key is None else str(key)) for key in keys),
            Text(show.number(last["value"]), style="bold"),
            Text(interval),
            Text(show.number(before)),
            Text(str(last["rows"])),
            Text(last["status"], style=COLOURS.get(last["status"], "")),
            Text(show.spark([row["value"] for row in rows[-TREND:]])),
        )
    return shown
