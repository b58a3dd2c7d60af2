"""The dashboard in Chromium: how long until a chart of a long history can be seen."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Error, sync_playwright

from benchmarks import histories, servers
from benchmarks.connection import Connection
from benchmarks.harness import Row, Sample, Table

BATCHES: Final = 100_000
MOST_MS: Final = 1000.0
CHART: Final = "main canvas, main svg[role=img]"
TIMEOUT_MS: Final = 15_000
# From the moment the address is asked for until the frame with the chart has been painted.
PAINTED: Final = """() => new Promise(painted => requestAnimationFrame(() =>
    requestAnimationFrame(() => painted(performance.now()))))"""
COLD: Final = "a browser that was never there"
WARM: Final = "opened again"


def run(*, quick: bool) -> Table:
    """Measure the overview of a project."""
    batches = BATCHES // 50 if quick else BATCHES
    found: dict[str, list[float]] = {COLD: [], WARM: []}
    why = ""
    with tempfile.TemporaryDirectory(prefix="xent-bench-") as folder:
        histories.write(Path(folder), batches)
        with servers.xent(data_dir=folder) as service:
            with Connection(service.port) as connection:
                histories.asking(connection, "metric=rows")()  # waits for the rollups
            url = f"http://127.0.0.1:{service.port}/dashboard/{histories.PROJECT}"
            try:
                with _chromium() as browser:
                    for _ in range(3 if quick else 11):
                        cold, warm = _open(browser, url, times=2)
                        found[COLD].append(cold)
                        found[WARM].append(warm)
            except Error as error:
                why = error.message.partition("\n")[0]
    rows = (
        Row(name, Sample(tuple(values)) if values else None, None, ("<=", MOST_MS), why)
        for name, values in found.items()
    )
    return Table(f"First chart painted, {batches} batches", "ms", tuple(rows))


def _open(browser: Browser, url: str, *, times: int) -> list[float]:
    """Open a page in a context of its own; return milliseconds until its first chart."""
    context = browser.new_context()
    try:
        page = context.new_page()
        taken = []
        for _ in range(times):
            page.goto(url, wait_until="commit", timeout=TIMEOUT_MS)
            page.wait_for_selector(CHART, timeout=TIMEOUT_MS)
            taken.append(float(page.evaluate(PAINTED)))
        return taken
    finally:
        context.close()


@contextmanager
def _chromium() -> Iterator[Browser]:
    """Run Debian's Chromium, or the one that Playwright has."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            browser.close()
