"""Measurements as text, as markdown and as JSON, and back from JSON."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import torch

from benchmarks.harness import Curve, Plot, Row, Sample, Table

LARGE: Final = 100.0
PROCESSORS: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured in one go, on one machine."""

    at: str
    machine: Mapping[str, object]
    tables: tuple[Table, ...]

    @classmethod
    def of(cls, tables: Sequence[Table]) -> Self:
        """Return tables that were measured here and now."""
        return cls(datetime.now(UTC).isoformat(timespec="seconds"), machine(), tuple(tables))

    @classmethod
    def read(cls, document: str) -> Self:
        """Return what :meth:`json` wrote."""
        read = json.loads(document)
        return cls(read["at"], read["machine"], tuple(map(_table, read["tables"])))

    def json(self) -> str:
        """Return every raw number."""
        tables = [
            {
                **asdict(table),
                "rows": [
                    {
                        **asdict(row),
                        "sample": None if row.sample is None else row.sample.values,
                        "median": None if row.sample is None else row.sample.median,
                        "spread": None if row.sample is None else row.sample.spread,
                        "ratio": table.ratio(row),
                        "met": table.met(row),
                    }
                    for row in table.rows
                ],
            }
            for table in self.tables
        ]
        return json.dumps({"at": self.at, "machine": self.machine, "tables": tables}, indent=1)

    def markdown(self, plots: str) -> str:
        """Return the tables as the README shows them.

        Args:
            plots: the folder of the pictures; nothing is shown of one that is not there.
        """
        parts = [", ".join(f"{name} {value}" for name, value in self.machine.items()) + "."]
        for table in self.tables:
            parts.append(f"{table.title}:")
            lines = [
                f"| | median, {table.unit} | spread | ratio | target |",
                "|---|---|---|---|---|",
            ]
            for row in table.rows:
                name, median, spread, ratio, target, verdict = _cells(table, row)
                stated = ": ".join(filter(None, (target, verdict)))
                lines.append(f"| {name} | {median} | {spread} | {ratio} | {stated} |")
            parts.append("\n".join(lines))
            parts += table.notes
            if table.plot is not None and plots:
                parts.append(f"![{table.plot.title}]({plots}/{table.plot.stem}.svg)")
        return "\n\n".join(parts)


def text(table: Table) -> str:
    """Return a table for a terminal."""
    columns = ["", f"median {table.unit}", "spread", "ratio", "target", ""]
    rows = [_cells(table, row) for row in table.rows]
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = [cells[0].ljust(widths[0])]
        aligned += [
            cell.rjust(width) for cell, width in zip(cells[1:-1], widths[1:-1], strict=True)
        ]
        return "  ".join([*aligned, cells[-1]]).rstrip()

    return "\n".join(["", table.title, line(columns), *map(line, rows), *table.notes])


def verdict(tables: Sequence[Table]) -> str:
    """Return how many targets were met, in a sentence."""
    answers = [table.met(row) for table in tables for row in table.rows if row.target is not None]
    open_ones = answers.count(None)
    sentence = f"{answers.count(True)} targets met, {answers.count(False)} missed"
    return f"{sentence}, {open_ones} not measured." if open_ones else f"{sentence}."


def machine() -> dict[str, object]:
    """Return what the numbers depend on."""
    found: dict[str, object] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    if torch.cuda.is_available():
        found["device"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    if PROCESSORS.exists():
        for line in PROCESSORS.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _cells(table: Table, row: Row) -> list[str]:
    target = "" if row.target is None else f"{row.target[0]} {row.target[1]:g}"
    if row.sample is None:
        return [row.name, "", "", "", target, f"not measured: {row.limit}"]
    ratio, met = table.ratio(row), table.met(row)
    missed = ": ".join(filter(None, ("missed", row.limit)))
    return [
        row.name,
        _number(row.sample.median),
        _number(row.sample.spread),
        "" if ratio is None else f"{ratio:.2f}",
        target,
        "" if met is None else "met" if met else missed,
    ]


def _number(value: float) -> str:
    return f"{value:.2f}" if value < LARGE else f"{value:.0f}"


def _table(read: Mapping[str, Any]) -> Table:
    return Table(
        title=read["title"],
        unit=read["unit"],
        rows=tuple(map(_row, read["rows"])),
        notes=tuple(read["notes"]),
        plot=None if read["plot"] is None else _plot(read["plot"]),
    )


def _row(read: Mapping[str, Any]) -> Row:
    return Row(
        name=read["name"],
        sample=None if read["sample"] is None else Sample(tuple(read["sample"])),
        baseline=read["baseline"],
        target=None if read["target"] is None else (read["target"][0], read["target"][1]),
        limit=read["limit"],
    )


def _plot(read: Mapping[str, Any]) -> Plot:
    curves = tuple(
        Curve(
            curve["name"],
            tuple((at, Sample(tuple(sample["values"]))) for at, sample in curve["points"]),
        )
        for curve in read["curves"]
    )
    return Plot(**{**read, "curves": curves})
