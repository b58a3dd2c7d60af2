"""``python -m benchmarks``: measure everything side by side; about ten minutes."""

import argparse
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final

import service.environment  # noqa: F401  (first: it must precede PyTorch)  # isort: split
from benchmarks import (
    client,
    compiled,
    core,
    cuda,
    growth,
    history,
    json_body,
    kills,
    kserve,
    memory,
    paint,
    report,
    serving,
    small,
    streaming,
    tracked,
    transfer,
    variants,
)
from benchmarks.environments import NotInstalled, python
from benchmarks.harness import Table
from benchmarks.report import Report

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results"
PLOTS: Final = HERE / "plots"
README: Final = HERE.parent / "README.md"
BEGIN: Final = "<!-- benchmarks -->"
END: Final = "<!-- /benchmarks -->"
IDEA_S: Final = 1800  # the first time, servers are installed
DRAW_S: Final = 120


def _wide(*, quick: bool) -> Table:
    shape = core.Shape(4096 if quick else 65536, 1000, forward=0.45, backward=0.2)
    return core.run(shape, repetitions=5 if quick else 9)


def _narrow(*, quick: bool) -> Table:
    shape = core.Shape(100_000 if quick else 2_000_000, 10, forward=0.5, backward=0.3)
    return core.run(shape, repetitions=5 if quick else 9)


IDEAS: Final[dict[str, Callable[..., Table | tuple[Table, ...]]]] = {
    "core-wide": _wide,
    "core-narrow": _narrow,
    "variants": variants.run,
    "growth": growth.core,
    "transfer": transfer.run,
    "streaming": streaming.run,
    "peers": serving.run,
    "json": json_body.run,
    "small": small.run,
    "kserve": kserve.run,
    "tracked": tracked.run,
    "kills": kills.run,
    "paint": paint.run,
    "growth-http": growth.http,
    "history": history.run,
    "history-long": history.long,
    "client": client.run,
    "memory": memory.run,
    "cuda": cuda.run,
}
# Measured only where they are named.
SELDOM: Final = frozenset({"history-long"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or read what was measured; print, keep, draw.

    Returns:
        0, whatever the numbers are; 1 where something could not be measured that should have been.
    """
    given = _parser().parse_args(arguments)
    unknown = set(given.ideas) - set(IDEAS)
    if unknown:
        _parser().error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(IDEAS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through every `finally`
    files: list[Path] = given.read or []
    failed: list[str] = []
    if not files:
        measured, failed = _measure(
            given.ideas or [name for name in IDEAS if name not in SELDOM], given.quick
        )
        files = [given.json or _new_file()]
        files[0].write_text(f"{measured.json()}\n")
        print(f"\n{report.verdict(measured.tables)}\nRaw numbers: {files[0]}")
    if given.readme:
        _write_readme(files)
    elif not given.quick:
        for path in files:
            _draw(path, path.with_suffix(""))
    if failed:
        print(f"Failed, see above: {', '.join(failed)}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("ideas", nargs="*", metavar="IDEA", help=f"some of {', '.join(IDEAS)}")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: small batches, no peers, no installing"
    )
    parser.add_argument("--json", type=Path, help="where the raw numbers go")
    parser.add_argument(
        "--readme", action="store_true", help="write tables and plots for README.md"
    )
    parser.add_argument(
        "--read",
        type=Path,
        action="append",
        metavar="FILE",
        help="measure nothing, take these raw numbers; may be given several times",
    )
    return parser


def _measure(ideas: Sequence[str], quick: bool) -> tuple[Report, list[str]]:
    """Measure and print; return what was found, and the names of ideas that failed."""
    if not quick:
        compiled.build()
    tables: list[Table] = []
    failed: list[str] = []
    for name in ideas:
        try:
            with _bounded(name):
                found = IDEAS[name](quick=quick)
        except Exception:  # noqa: BLE001  (one that fails does not keep the others from being told)
            traceback.print_exc()
            failed.append(name)
            continue
        for table in found if isinstance(found, tuple) else (found,):
            print(report.text(table), flush=True)
            tables.append(table)
    return Report.of(tables), failed


@contextmanager
def _bounded(name: str) -> Iterator[None]:
    """Interrupt an idea that takes too long, wherever it waits."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"{name} was not done after {IDEA_S} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(IDEA_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _new_file() -> Path:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / ".gitignore").write_text("*\n")  # numbers of one machine on one day
    return RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"


def _draw(raw: Path, folder: Path) -> bool:
    """Draw the plots of raw numbers; tell whether they could be drawn."""
    command = ["-m", "benchmarks.draw", str(raw.resolve()), str(folder.resolve())]
    try:
        subprocess.run(  # noqa: S603  (an environment of this repository's)
            [str(python("plots")), *command],
            cwd=HERE.parent,
            stdin=subprocess.DEVNULL,
            timeout=DRAW_S,
            check=True,
        )
    except (NotInstalled, subprocess.SubprocessError) as error:
        print(f"No plots: {error}")
        return False
    print(f"Plots: {folder}")
    return True


def _write_readme(files: Sequence[Path]) -> None:
    """Write tables and plots where README.md shows them."""
    drawn = [_draw(path, PLOTS) for path in files]
    folder = str(PLOTS.relative_to(README.parent))
    parts = [
        Report.read(path.read_text()).markdown(folder if plots else "")
        for path, plots in zip(files, drawn, strict=True)
    ]
    before, rest = README.read_text().split(BEGIN)
    _, after = rest.split(END)
    tables = "\n\n".join(parts)
    README.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
