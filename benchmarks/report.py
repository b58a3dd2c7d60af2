"""Measurements as text and as JSON."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

import torch

from benchmarks.harness import Row, Table

LARGE: Final = 100.0


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


def markdown(tables: Sequence[Table]) -> str:
    """Return the tables as the README shows them."""
    parts = [", ".join(f"{name} {value}" for name, value in machine().items()) + "."]
    for table in tables:
        parts.append(f"{table.title}:")
        lines = [f"| | median, {table.unit} | ratio | target |", "|---|---|---|---|"]
        for row in table.rows:
            name, median, _, ratio, target, verdict = _cells(table, row)
            stated = f"{target}: {verdict.split(':')[0]}" if target else ""
            lines.append(f"| {name} | {median} | {ratio} | {stated} |")
        parts.append("\n".join(lines))
        parts += table.notes
    return "\n\n".join(parts)


def document(tables: Sequence[Table]) -> str:
    """Return every raw number as JSON."""
    return json.dumps(
        {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "tables": [
                {
                    "title": table.title,
                    "unit": table.unit,
                    "rows": [
                        {
                            **asdict(row),
                            "sample": row.sample.values,
                            "median": row.sample.median,
                            "spread": row.sample.spread,
                            "ratio": table.ratio(row),
                            "met": table.met(row),
                        }
                        for row in table.rows
                    ],
                    "notes": table.notes,
                }
                for table in tables
            ],
        },
        indent=1,
    )


def machine() -> dict[str, object]:
    """Return what the numbers depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _cells(table: Table, row: Row) -> list[str]:
    ratio, met = table.ratio(row), table.met(row)
    target = "" if row.target is None else f"{row.target[0]} {row.target[1]:g}"
    verdict = "" if met is None else "met" if met else f"missed: {row.limit}"
    return [
        row.name,
        _number(row.sample.median),
        _number(row.sample.spread),
        "" if ratio is None else f"{ratio:.2f}",
        target,
        verdict,
    ]


def _number(value: float) -> str:
    return f"{value:.2f}" if value < LARGE else f"{value:.0f}"
