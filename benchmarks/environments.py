"""Environments beside the product's: of what is measured or tested with it, and what draws plots.

Each holds what ``locks/<name>.lock`` pins, and is made again when that file changes. Indexes are
those that pip is configured with on the machine. ``python -m benchmarks.environments`` makes those
that tests use where they are there.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent / ".environments"
LOCKS: Final = Path(__file__).parent / "locks"
INSTALL_S: Final = 1200


TESTED: Final = ("mlserver", "trackers")
"""Programs that tests run."""

TESTED_HERE: Final = ("lightning",)
"""Packages that tests import."""


class NotInstalled(Exception):
    """An environment could not be made; the message is short enough for a table."""


def python(name: str) -> Path:
    """Return the interpreter of an environment, which is made first if need be.

    Raises:
        NotInstalled: it cannot be made here.
    """
    folder = HERE / name
    interpreter = folder / "bin" / "python"
    _ensure(name, [[sys.executable, "-m", "venv", "--clear", str(folder)]], [str(interpreter)])
    return interpreter


def packages(name: str) -> Path:
    """Return a folder of packages for this interpreter, without anything they depend on.

    Raises:
        NotInstalled: they cannot be installed here.
    """
    folder = HERE / name
    _ensure(name, [], [sys.executable], "--no-deps", "--upgrade", "--target", str(folder))
    return folder


def _ensure(name: str, before: list[list[str]], interpreter: list[str], *options: str) -> None:
    """Install a lock once: a stamp beside the environment tells that this very lock is in it."""
    lock = LOCKS / f"{name}.lock"
    wanted = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    HERE.mkdir(exist_ok=True)
    (HERE / ".gitignore").write_text("*\n")
    stamp = HERE / f"{name}.installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    stamp.unlink(missing_ok=True)
    sys.stderr.write(f"installing {name} into {HERE.name}/ ...\n")
    pip = [*interpreter, "-m", "pip", "install", "--quiet", *options, "-r", str(lock)]
    log = HERE / f"{name}.log"
    with log.open("wb") as written:
        for command in (*before, pip):
            _run(name, command, written.fileno())
    stamp.write_text(wanted)


def _run(name: str, command: list[str], log: int) -> None:
    why = f"{name} cannot be installed here, see {HERE.name}/{name}.log"
    try:
        subprocess.run(  # noqa: S603  (this interpreter, this repository's locks)
            command,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=INSTALL_S,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"installing {name} takes too long") from None
    except (subprocess.CalledProcessError, OSError):
        raise NotInstalled(why) from None


if __name__ == "__main__":
    try:
        for each in TESTED:
            python(each)
        for each in TESTED_HERE:
            packages(each)
    except NotInstalled as error:
        sys.exit(str(error))
