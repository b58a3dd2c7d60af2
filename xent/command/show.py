"""Answers as tables for a terminal."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table as Shown
from rich.text import Text

from xent.answers import Answer, Comparison, Variant

DIGITS: Final = 6
MOST_ROWS: Final = 40
SPARKS: Final = "▁▂▃▄▅▆▇█"


def console(*, stderr: bool = False) -> Console:
    """Return a terminal; what is no terminal gets no colours, and as much width as it takes."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=200)


def as_json(document: object) -> None:
    """Print a document in one line, for machines."""
    sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")


def number(value: object) -> str:
    """Return a cell; a dash where nothing is."""
    if value is None or value != value:  # noqa: PLR0124  (NaN)
        return "-"
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)


def table(
    rows: Sequence[Mapping[str, Any]], columns: Iterable[str], *, title: str = "", words: int = 1
) -> Shown:
    """Return rows as a table; the first ``words`` columns are words, the others numbers."""
    shown = Shown(title=title or None, title_justify="left", title_style="bold", box=None)
    names = list(columns)
    for place, name in enumerate(names):
        shown.add_column(name, justify="left" if place < words else "right", no_wrap=True)
    for row in rows[:MOST_ROWS]:
        # Names come from elsewhere: as Text, so that brackets in them are no markup.
        shown.add_row(*(Text(number(row.get(name))) for name in names))
    if len(rows) > MOST_ROWS:
        shown.caption = f"{len(rows) - MOST_ROWS} more: --json lists all"
        shown.caption_justify = "left"
    return shown


def answer(found: Answer) -> list[Any]:
    """Return what a person wants to know of one answer."""
    grid = Shown.grid(padding=(0, 2))
    reduction, rows = found.reduction, found.rows
    settings = ", ".join(f"{name} {each}" for name, each in found.settings.items())
    left_out = {
        name: getattr(rows, name)
        for name in ("ignored", "nonfinite", "infinite")
        if getattr(rows, name)
    }
    facts = {
        found.name: f"{number(found.loss)} nats" if found.undefined is None else found.undefined,
        "reduction": f"{reduction.name}: {number(reduction.sum)} / {number(reduction.denominator)} "
        f"({reduction.normaliser})",
        "rows": ", ".join(
            [f"{rows.evaluated} of {rows.total}", *(f"{n} {name}" for name, n in left_out.items())]
        ),
        "classes": f"{found.classes}, labels {found.label_kind}",
        "settings": settings or "none",
    }
    for name, fact in facts.items():
        grid.add_row(Text(name, style="bold"), Text(fact))
    if found.track is not None:
        grid.add_row(Text("tracked", style="bold"), Text(found.track.status))
    parts: list[Any] = [grid, *(_diagnostic(each.message) for each in found.diagnostics)]
    return [*parts, *_details(found)]


def _diagnostic(message: str) -> Text:
    return Text(f"note: {message}", style="yellow")


def _details(found: Answer) -> Iterable[Shown]:
    if found.calibration is not None:
        row = {name: getattr(found.calibration, name) for name in ("ece", "brier", "entropy_mean")}
        yield table([row], row, title="\ncalibration", words=0)
    if found.distribution is not None:
        quantiles = ("min", "p50", "p90", "p99", "max")
        row = {name: getattr(found.distribution, name) for name in quantiles}
        yield table([row], quantiles, title="\nloss per row", words=0)
    if found.per_class is not None:
        wanted = ("class", "name", "support", "loss_mean", "loss_share", "recall", "predicted")
        names = tuple(name for name in wanted if name in found.per_class)
        words = 1 + ("name" in found.per_class)
        yield table(found.per_class.rows(), names, title="\nper class", words=words)
    if found.hardest is not None:
        yield table(found.hardest.rows(), found.hardest, title="\nhardest rows", words=0)


def comparison(found: Comparison) -> list[Any]:
    """Return a comparison as two tables."""
    rows = [
        {
            "name": each.name,
            "loss": each.loss,
            "normalised entropy": compared.normalised_entropy,
            "sum": each.reduction.sum,
            "denominator": each.reduction.denominator,
        }
        for each, compared in zip(found.results, found.variants, strict=True)
    ]
    names = ("a", "b", "comparable", "spearman", "gradient_cosine")
    return [
        table(rows, rows[0]),
        *([table(found.pairs.rows(), names, title="\npairs", words=3)] if len(found.pairs) else []),
    ]


def variants(found: Sequence[Variant]) -> Shown:
    """Return the variants as a table."""
    rows = [
        {
            "variant": each.variant,
            "family": ", ".join(each.families),
            "labels": ", ".join(each.label_kinds),
            "settings": ", ".join(each.settings.get("properties", {})),
        }
        for each in found
    ]
    return table(rows, rows[0] if rows else (), words=4)


def variant(found: Variant) -> list[Any]:
    """Return what there is to know about one variant."""
    grid = Shown.grid(padding=(0, 2))
    facts = {
        found.variant: found.summary,
        "loss": found.formula,
        "gradient": found.gradient,
        "labels": ", ".join(found.label_kinds),
        "source": found.source,
    }
    for name, fact in facts.items():
        grid.add_row(Text(name, style="bold"), Text(fact))
    required = found.settings.get("required", ())
    rows = [
        {
            "option": f"--{name.replace('_', '-')}",
            "default": "required" if name in required else json.dumps(schema.get("default")),
            "what": schema.get("description", ""),
        }
        for name, schema in found.settings.get("properties", {}).items()
    ]
    settings = Shown(box=None)
    for name in ("option", "default", "what"):
        settings.add_column(name, overflow="fold")
    for row in rows:
        settings.add_row(*(Text(row[name]) for name in row))
    return [grid, settings]


def spark(values: Sequence[float | None]) -> str:
    """Return a line of bars, a blank where nothing is."""
    there = [value for value in values if value is not None]
    if not there:
        return ""
    low, high = min(there), max(there)
    span = (high - low) or 1.0
    last = len(SPARKS) - 1
    return "".join(
        " " if value is None else SPARKS[round((value - low) / span * last)] for value in values
    )
