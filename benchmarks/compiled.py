"""The compiled passes: built before anything is measured; and where evaluations spend time."""

import cProfile
import pstats
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Final

from benchmarks.harness import milliseconds
from xentcore import EAGER, Passes, load_passes

BUILD_S: Final = 1800
LIBRARY: Final = "kernels/library.py"
METHOD: Final = re.compile(r"method '?(?:[\w.]*\.)?(\w+)")
MISSING: Final = "the compiled passes are not built: make kernels"


def build() -> None:
    """Compile what is missing; where that fails, its messages are printed and eager ones serve."""
    if load_passes() is None:
        sys.stderr.write("compiling the passes ...\n")
        subprocess.run(
            [sys.executable, "-m", "xentcore.kernels", "build"],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            timeout=BUILD_S,
            check=False,
        )


def limit(passes: Passes, evaluation: Callable[[Passes], object]) -> str:
    """Return where an evaluation spends its time: passes first, then what is around them."""
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*inputs: object) -> object:
            found: list[object] = []
            spent[name] += milliseconds(lambda: found.append(function(*inputs)))
            return found[0]

        return run

    functions = {each.name: getattr(passes, each.name) for each in fields(passes)}
    clocks: dict[str, Any] = {
        name: timed(name, run) for name, run in functions.items() if callable(run)
    }
    watched = replace(passes, **clocks)
    whole = milliseconds(lambda: evaluation(watched))
    spent["around the passes"] = max(0.0, whole - sum(spent.values()))
    largest = sorted(spent.items(), key=lambda each: -each[1])[:3]
    shares = ", ".join(f"{name} {time / whole:.0%}" for name, time in largest)
    return f"{shares}; most of what is around is {_busiest(lambda: evaluation(passes))}"


def _busiest(evaluation: Callable[[], object]) -> str:
    """Return the function outside of the compiled passes that takes most time by itself."""
    profile = cProfile.Profile()
    profile.runcall(evaluation)
    own_s = {
        f"{name[0]}:{name[2]}": spent[2]
        for name, spent in pstats.Stats(profile).stats.items()  # type: ignore[attr-defined]
        if not name[0].endswith(LIBRARY)
    }
    busiest = max(own_s, key=own_s.__getitem__)
    method = METHOD.search(busiest)
    return method[1] if method else busiest.rpartition(":")[2]


def both() -> dict[str, Passes]:
    """Return eager passes and, where they are built, the compiled ones, by what rows call them."""
    compiled = load_passes()
    return {"eager": EAGER} if compiled is None else {"compiled": compiled, "eager": EAGER}
