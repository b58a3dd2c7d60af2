"""Where compiled passes lie, and what makes the ones of another machine or version others."""

import hashlib
import os
import platform
from functools import cache
from pathlib import Path
from typing import Final

import torch

_HERE: Final = Path(__file__).parent
_SOURCES: Final = (
    _HERE.parent / "softmax.py",
    _HERE.parent / "sigmoid.py",
    _HERE / "catalogue.py",
    _HERE / "compiler.py",
)


def default_root() -> Path:
    """Return the folder of all versions: ``$XENT_KERNELS_DIR``, or in the user's cache."""
    stated = os.environ.get("XENT_KERNELS_DIR")
    if stated:
        return Path(stated)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "xent" / "kernels"


def folder(root: Path) -> Path:
    """Return the folder of this source, version of torch and processor."""
    return root / f"torch-{torch.__version__}-{_key()}"


@cache
def _key() -> str:
    digest = hashlib.sha256()
    for source in _SOURCES:
        digest.update(source.read_bytes())
    digest.update(f"{platform.machine()} {_instructions()}".encode())
    return digest.hexdigest()[:16]


def _instructions() -> str:
    """Return what the processor understands: code compiled for it may use all of it."""
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return torch.backends.cpu.get_cpu_capability()  # pragma: no cover  (not Linux)
