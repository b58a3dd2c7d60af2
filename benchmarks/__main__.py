"""``python -m benchmarks``: measure everything side by side; a few minutes."""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import service.environment  # noqa: F401  (first: it must precede PyTorch)  # isort: split
from benchmarks import core, json_body, memory, report, small, stream, transfer
from benchmarks.harness import Table

RESULTS: Final = Path(__file__).parent / "results"
README: Final = Path(__file__).parent.parent / "README.md"
BEGIN: Final = "<!-- benchmarks -->"
END: Final = "<!-- /benchmarks -->"


def _wide(*, quick: bool) -> Table:
    return core.run(4096 if quick else 65536, 1000, repetitions=5 if quick else 9)


def _narrow(*, quick: bool) -> Table:
    return core.run(100_000 if quick else 2_000_000, 10, repetitions=5 if quick else 9)


IDEAS: Final[dict[str, Callable[..., Table]]] = {
    "transfer": transfer.run,
    "stream": stream.run,
    "json": json_body.run,
    "memory": memory.run,
    "core-wide": _wide,
    "core-narrow": _narrow,
    "small": small.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code: 0, whatever the numbers are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("ideas", nargs="*", metavar="IDEA", help=f"some of {', '.join(IDEAS)}")
    parser.add_argument("--quick", action="store_true", help="smaller batches, fewer repetitions")
    parser.add_argument("--json", type=Path, help="where the raw numbers go; - prints them instead")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md")
    given = parser.parse_args(arguments)
    unknown = set(given.ideas) - set(IDEAS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(IDEAS)}")
    tables = []
    for name in given.ideas or IDEAS:
        tables.append(IDEAS[name](quick=given.quick))
        if given.json != Path("-"):
            print(report.text(tables[-1]), flush=True)
    if given.readme:
        _write_readme(report.markdown(tables))
    raw = report.document(tables)
    if given.json == Path("-"):
        print(raw)
        return 0
    path = given.json or _new_file()
    path.write_text(f"{raw}\n")
    print(f"\nRaw numbers: {path}")
    return 0


def _write_readme(tables: str) -> None:
    before, rest = README.read_text().split(BEGIN)
    _, after = rest.split(END)
    README.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}")


def _new_file() -> Path:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / ".gitignore").write_text("*\n")  # numbers of one machine on one day
    return RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"


if __name__ == "__main__":
    sys.exit(main())
