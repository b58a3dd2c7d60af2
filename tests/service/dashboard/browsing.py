"""A real browser, a real server with three weeks of batches, and what every page must keep."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect, sync_playwright

from demo.digits import CLASSES, HeldOut

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
WIDE = ViewportSize(width=1280, height=900)
NARROW = ViewportSize(width=400, height=800)
FLAWS = (Path(__file__).parent / "flaws.js").read_text()


class Visit:
    """A page that was opened, and what it did that it should not."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.refused: list[str] = []
        self.abroad: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.refused.append(str(error)))
        page.on("request", self._asked)

    def open(self, path: str) -> "Visit":
        """Go somewhere and wait until every part is there."""
        self.page.goto(self.origin + path)
        return self.settled()

    def settled(self) -> "Visit":
        """Wait until nothing is on its way."""
        expect(self.page.locator("[aria-busy=true], .loading")).to_have_count(0, timeout=60_000)
        return self

    def follow(self, link: Locator) -> "Visit":
        """Click on what leads to another page, and wait until that is there."""
        with self.page.expect_navigation():
            link.click()
        return self.settled()

    def text(self, selector: str) -> str:
        """Return what stands there."""
        return self.page.locator(selector).first.inner_text()

    def flaws(self) -> list[str]:
        """Return what is wrong with the page as it stands."""
        found: list[str] = self.page.evaluate(FLAWS)
        overflow = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if overflow > 0:
            found.append(f"{overflow} px too wide")
        return [*found, *self.refused, *self.abroad]

    def _said(self, message: Any) -> None:  # noqa: ANN401  (the driver's)
        if message.type in ("error", "warning"):
            self.refused.append(message.text)

    def _asked(self, request: Any) -> None:  # noqa: ANN401  (the driver's)
        if not request.url.startswith((f"{self.origin}/", "blob:", "data:")):
            self.abroad.append(request.url)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium; skip where there is none."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        reason = "needs Chromium: apt-get install chromium"
        if os.environ.get("XENT_TESTS_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def held_out(rows: int = 600) -> HeldOut:
    """Return logits as two classifiers might have them, the second one better."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (rows,), generator=random)
    noise = torch.randn(rows, CLASSES, generator=random)
    sure = torch.nn.functional.one_hot(labels, CLASSES)
    logits = {"linear": 2.5 * sure + noise, "neural": 5.0 * sure + noise}
    return HeldOut(rows, torch.zeros(rows, 8, 8), labels, logits, {})


def rows_of(visit: Visit, selector: str) -> Sequence[list[str]]:
    """Return the cells of a table's body."""
    rows = visit.page.locator(f"{selector} tbody tr").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]
