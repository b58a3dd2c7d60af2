"""What is not ours is what it says it is."""

import hashlib
import re
from pathlib import Path

import pytest

import service

VENDOR = Path(service.__path__[0]) / "dashboard" / "static" / "vendor"
NOTICE = (VENDOR / "NOTICE").read_text()
SUMS = {
    name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", NOTICE, re.MULTILINE)
}
PYPROJECT = (Path(service.__path__[0]).parent / "pyproject.toml").read_text()


@pytest.mark.parametrize("path", sorted(VENDOR.iterdir()), ids=lambda path: path.name)
def test_vendored_files_are_unchanged(path: Path) -> None:
    if path.name != "NOTICE":
        assert hashlib.sha256(path.read_bytes()).hexdigest() == SUMS[path.name]


def test_the_notice_names_version_and_licence() -> None:
    version = re.search(r"uPlot ([\d.]+)", NOTICE)
    assert version is not None
    assert f"(v{version[1]})" in (VENDOR / "uPlot.iife.min.js").read_text()[:200]
    assert "MIT License" in (VENDOR / "LICENSE").read_text()
    for name in ("LICENSE", "NOTICE"):
        assert f'"service/dashboard/static/vendor/{name}"' in PYPROJECT
