"""``python -m benchmarks.draw REPORT FOLDER``: the plots of a report as SVG files.

Runs in an environment of its own, with matplotlib and without PyTorch.
"""

import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot

WIDTH_IN: Final = 6.4
HEIGHT_IN: Final = 3.8
STYLE: Final = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "xent",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
}
METADATA: Final = {"Date": None, "Creator": None}  # equal numbers, equal files
MARKERS: Final = "os^Dv"


def draw(plot: Mapping[str, Any], folder: Path) -> None:
    """Write one plot: medians as lines, quartiles as bars."""
    figure, axes = pyplot.subplots(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    for curve, marker in zip(plot["curves"], MARKERS, strict=False):
        at = [place for place, _ in curve["points"]]
        quartiles = [_quartiles(sample["values"]) for _, sample in curve["points"]]
        medians = [middle for _, middle, _ in quartiles]
        below = [middle - low for low, middle, _ in quartiles]
        above = [high - middle for _, middle, high in quartiles]
        axes.errorbar(
            at, medians, yerr=(below, above), label=curve["name"], marker=marker, capsize=3
        )
    if plot["logarithmic"]:
        axes.set_xscale("log")
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
        axes.set_xticks(sorted({place for curve in plot["curves"] for place, _ in curve["points"]}))
    axes.set_title(plot["title"])
    axes.set_xlabel(plot["x"])
    axes.set_ylabel(plot["y"])
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    # A white ground: legible on dark pages too.
    figure.savefig(folder / f"{plot['stem']}.svg", facecolor="white", metadata=METADATA)
    pyplot.close(figure)


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def main(report: Path, folder: Path) -> None:
    """Draw every plot of a report."""
    mpl.use("svg")
    mpl.rcParams.update(STYLE)
    folder.mkdir(parents=True, exist_ok=True)
    for table in json.loads(report.read_text())["tables"]:
        if table["plot"] is not None:
            draw(table["plot"], folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
