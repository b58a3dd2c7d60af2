"""Which metrics a PromQL expression asks for."""

import re
from dataclasses import dataclass
from typing import Final

# What Prometheus adds to everything that it scrapes.
TARGET_LABELS: Final = frozenset({"job", "instance"})
_SELECTOR: Final = re.compile(r"\b([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{([^}]*)\})?(?![\w(])")
_MATCHER: Final = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_PREFIXES: Final = ("xent_", "process_", "python_", "up", "ALERTS")


@dataclass(frozen=True)
class Asked:
    """A metric, and what it is narrowed to: label, sign, value."""

    name: str
    matchers: list[tuple[str, str, str]]


def metrics_in(expression: str) -> list[Asked]:
    """Return the metrics of an expression; those of this service, its process, and Prometheus'."""
    bare = re.sub(r"\b(?:by|without)\s*\([^)]*\)", "", expression)
    found = _SELECTOR.finditer(bare)
    return [
        Asked(each[1], _MATCHER.findall(each[2] or ""))
        for each in found
        if each[1].startswith(_PREFIXES)
    ]
