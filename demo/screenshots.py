"""``python -m demo.screenshots``: pictures of the dashboard's pages, with three weeks of digits."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import httpx2
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from demo import days
from demo.digits import train
from demo.png import small
from demo.running import started

FOLDER: Final = Path(__file__).parent / "screenshots"
CHROMIUM: Final = "/usr/bin/chromium"
WIDE: Final = ViewportSize(width=1080, height=800)
NARROW: Final = ViewportSize(width=400, height=800)
OF: Final = f"/dashboard/{days.PROJECT}"


def main(folder: Path = FOLDER) -> int:
    """Start a service, fill it, and take the pictures."""
    hours = days.EVERY // timedelta(hours=1)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    begin = now - timedelta(days=days.DAYS, hours=now.hour % hours)
    folder.mkdir(exist_ok=True)
    with started() as url, httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
        days.post(client, train(), begin)
        days.watch(client, begin)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for path in pictures(browser, url, begin, folder):
                print(f"{path}  {path.stat().st_size / 1000:.0f} kB")
            browser.close()
    return 0


def pages(begin: datetime) -> dict[str, str]:
    """Return the addresses of what is shown, by the name of its picture."""
    drift = (begin + timedelta(days=days.DRIFT_DAY)).isoformat()
    new = f"model_version:{days.NEW}"
    sides = {"baseline": new, "baseline_to": drift, "candidate": new, "candidate_from": drift}
    only_new = {"model_version": days.NEW}
    return {
        "overview": OF,
        "classes": f"{OF}/classes?{urlencode(only_new)}",
        "calibration": f"{OF}/calibration",
        "hardest": f"{OF}/hardest?{urlencode(only_new)}",
        "compare": f"{OF}/compare?{urlencode(sides)}",
        "try": "/try?variant=sparse&variant=focal",
    }


def pictures(browser: Browser, url: str, begin: datetime, folder: Path) -> Iterator[Path]:
    """Take a picture of every page, and of some in the dark and on a telephone; yield the files."""
    every = pages(begin)
    wide = browser.new_page(viewport=WIDE, color_scheme="light")
    for name, address in every.items():
        yield _picture(wide, url + address, folder / f"{name}.png")
    dark = browser.new_page(viewport=WIDE, color_scheme="dark")
    for name in ("overview", "classes"):
        yield _picture(dark, url + every[name], folder / f"{name}-dark.png")
    narrow = browser.new_page(viewport=NARROW, color_scheme="light")
    yield _picture(narrow, url + every["overview"], folder / "overview-narrow.png")


def _picture(page: Page, address: str, path: Path) -> Path:
    page.goto(address)
    busy = page.locator("[aria-busy=true], .loading")
    expect(busy).to_have_count(0)
    if "/try" in address:
        page.get_by_role("button", name="Evaluate").click()
        expect(busy).to_have_count(0)
    path.write_bytes(small(page.screenshot(full_page=True)))
    return path


if __name__ == "__main__":
    sys.exit(main())
