"""Charts as functions of plain data."""

import math
import re
from xml.etree.ElementTree import Element, fromstring

import pytest

from service.dashboard.forest import Effect, forest
from service.dashboard.heatmap import Cell, HeatRow, colour, heatmap
from service.dashboard.histogram import Bucket, histogram
from service.dashboard.reliability import Bin, reliability
from service.dashboard.scale import Linear, Logarithmic, decimals_of
from service.dashboard.svg import fitted, tag
from service.dashboard.wording import (
    MINUS,
    NONE,
    change,
    count,
    length,
    moment,
    number,
    percent,
    signed,
)
from service.history.times import DAY, HOUR, MINUTE, SECOND

HOSTILE = "<script>alert('x')</script>\"&"
NS = "{http://www.w3.org/2000/svg}"


def elements(svg: str, name: str, class_: str | None = None) -> list[Element]:
    """Return the elements of a chart, which must be well-formed and inside of its box."""
    root = fromstring(svg)  # noqa: S314  (our own)
    assert "style=" not in svg
    width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
    for each in root.iter(f"{NS}rect"):
        x, y, w, h = (float(each.attrib[key]) for key in ("x", "y", "width", "height"))
        assert -0.01 <= x <= x + w <= width + 0.01
        assert -0.01 <= y <= y + h <= height + 0.01
    return [
        each
        for each in root.iter(f"{NS}{name}")
        if class_ is None or each.attrib.get("class") == class_
    ]


def title(element: Element) -> str:
    return element.findtext(f"{NS}title") or ""


def test_text_and_attributes_are_escaped() -> None:
    written = tag("text", HOSTILE, class_=HOSTILE, gone=None)
    assert "<script" not in written
    root = fromstring(written)  # noqa: S314
    assert (root.text, root.attrib) == (HOSTILE, {"class": HOSTILE})


def test_the_histogram_has_the_shares_of_rows() -> None:
    now = [Bucket(0.09, 0.1, 30), Bucket(0.9, 1.0, 10), Bucket(-1e-12, 1e-12, 60)]
    before = [Bucket(0.09, 0.1, 5)]
    svg = histogram(now, before, quantiles={"p50": 0.1, "p90": 1.0, "p99": None}, width=600)
    bars = elements(svg, "rect", "bar")
    assert [title(bar) for bar in bars] == ["60.0 %", "30.0 %", "10.0 %"]
    heights = [float(bar.attrib["height"]) for bar in bars]
    assert heights[0] == pytest.approx(2 * heights[1], rel=1e-2)
    assert heights[1] == pytest.approx(3 * heights[2], rel=1e-2)
    assert len(elements(svg, "path", "outline")) == 1
    assert len(elements(svg, "line", "mark")) == 2
    assert "Histogram of the losses of 100 rows" in svg
    assert "≤ 0.01" in svg  # where losses below the axis are
    assert not elements(histogram(now, quantiles={}, width=400), "path")


def test_losses_of_any_size_have_an_axis() -> None:
    for buckets in ([Bucket(1e11, 1e12, 1), Bucket(1e-12, 2e-12, 1)], [Bucket(-2, -1, 4)], []):
        assert elements(histogram(buckets, quantiles={}, width=240), "line", "axis")


@pytest.mark.parametrize(
    ("ratio", "class_"),
    [
        *((None, "d-none"), (1.0, "d0"), (1.04, "d0"), (0.96, "d0"), (1.05, "d1"), (1.3, "d3")),
        *((1 / 1.3, "d-3"), (2.0, "d5"), (0.5, "d-5"), (0.0, "d-5"), (9.0, "d5"), (-0.2, "d-5")),
    ],
)
def test_colours_are_the_same_up_and_down(ratio: float | None, class_: str) -> None:
    assert colour(ratio) == class_


def test_the_heatmap_has_a_cell_for_every_class_and_time() -> None:
    start = 1_767_225_600_000_000
    rows = [
        HeatRow(HOSTILE, [Cell(0.5, 2.5, 10), Cell(None, None, 0), Cell(0.2, 1.0, 1234)]),
        HeatRow("bee", [Cell(0.1, 0.4, 1), Cell(0.1, 0.9, 1), Cell(0.1, 1.01, 1)]),
    ]
    times = [start + at * DAY for at in range(3)]
    svg = heatmap(rows, times, step_us=DAY, width=500)
    cells = elements(svg, "rect")
    assert [cell.attrib["class"] for cell in cells] == ["d5", "d-none", "d0", "d-5", "d-2", "d0"]
    assert title(cells[0]) == f"{HOSTILE}, 1 Jan: 0.5000 (+150 %), 10 rows"
    assert title(cells[1]).endswith("2 Jan: no rows")
    assert "1,234 rows" in title(cells[2])
    assert [each.text for each in elements(svg, "text", "tick")] == ["1 Jan", "2 Jan", "3 Jan"]
    assert elements(heatmap(rows[:1], times, step_us=HOUR, width=240), "rect")


def test_the_reliability_diagram_puts_the_sure_and_right_on_the_diagonal() -> None:
    bins = [
        Bin(0.0, 0.5, 0, None, None),
        Bin(0.5, 0.8, 100, 0.75, 0.75, 0.7, 0.8),
        Bin(0.8, 1.0, 400, 0.9, 0.5, 0.45, 0.55),
    ]
    svg = reliability(bins, [Bin(0.5, 0.8, 7, 0.6, 0.7)], width=900)
    (on, below), (hollow,) = elements(svg, "circle", "point"), elements(svg, "circle", "hollow")
    (diagonal,) = elements(svg, "line", "diagonal")
    x1, y1, x2, y2 = (float(diagonal.attrib[key]) for key in ("x1", "y1", "x2", "y2"))
    at = (float(on.attrib["cx"]) - x1) / (x2 - x1)
    assert at == pytest.approx(0.75)
    assert (float(on.attrib["cy"]) - y1) / (y2 - y1) == pytest.approx(0.75)
    assert float(below.attrib["cy"]) > float(on.attrib["cy"])
    assert float(below.attrib["r"]) > float(on.attrib["r"])
    assert "7 decisions" in title(hollow)
    assert len(elements(svg, "line", "whisker")) == 2


def test_the_forest_plot_tells_verdicts_by_shape() -> None:
    effects = [
        Effect(HOSTILE, 0.5, 0.3, 0.7, "worse", 10),
        Effect("bee", -0.2, -0.3, -0.1, "better", 20),
        Effect("cat", 0.1, -0.1, 0.3, "no_difference", 30),
        Effect("dog", None, None, None, "insufficient", 2),
    ]
    for width in (900, 320):
        svg = forest(effects, width=width)
        (up,), (down,) = (
            elements(svg, "polygon", "shape worse"),
            elements(svg, "polygon", "shape better"),
        )
        assert title(up) == f"{HOSTILE}: +0.500 (0.3000 to 0.7000), 10 rows"
        (zero,) = elements(svg, "line", "zero")
        middle = float(zero.attrib["x1"])
        assert tip(up)[0] > middle > tip(down)[0]
        assert tip(up)[1] < 26 + 13 < 26 + 26 + 13 < tip(down)[1]
        assert len(elements(svg, "circle", "shape same")) == 1
        assert "too few rows" in svg
    assert elements(forest(effects[3:], width=500), "line", "zero")
    assert "better" not in forest(effects[:1], width=320).replace("shape better", "")
    assert "worse" not in forest([effects[1]], width=320).replace("shape worse", "")
    unsure = forest([Effect("ant", 0.1, None, None, "no_difference", 3)], width=320)
    assert not elements(unsure, "line", "effect same")


def tip(polygon: Element) -> tuple[float, float]:
    x, y = polygon.attrib["points"].split()[2].split(",")
    return float(x), float(y)


def test_axes_name_round_values_that_they_hold() -> None:
    assert Linear(0, 10, 0, 100).ticks(5) == [0, 2, 4, 6, 8, 10]
    ticks = Linear(-0.3, 0.21, 0, 1).ticks(5)
    assert ticks == pytest.approx([-0.2, 0, 0.2])
    assert decimals_of(ticks) == 1
    assert Linear(3, 3, 0, 10)(3) == 5
    assert Linear(3, 3, 0, 10).ticks(4) == [3]
    assert Logarithmic(0.01, 100, 0, 4).ticks() == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert Logarithmic(0.01, 100, 0, 4)(1) == pytest.approx(2)
    assert Logarithmic(0.01, 100, 0, 4)(1e9) == 4
    assert decimals_of([1.0]) == 0


def test_numbers_and_times_in_words() -> None:
    assert [number(each) for each in (0.0, 0.12345, 1234.5, 1e-9, 1e12)] == [
        *("0", "0.1235", "1,234", "1.000e-09", "1.000e+12")
    ]
    assert [number(None), number(math.nan), percent(math.inf), change(None)] == [NONE] * 4
    assert [signed(each) for each in (0.5, -0.25, 0.0, None)] == [
        "+0.500",
        f"{MINUS}0.250",
        "±0",
        NONE,
    ]
    assert [change(each) for each in (1.26, 0.5, 1.02, 30.0)] == [
        "+26 %",
        f"{MINUS}50 %",
        "+2.0 %",
        "+2,900 %",
    ]
    assert (count(1234567), count(None)) == ("1,234,567", NONE)
    assert [length(each) for each in (DAY, 50 * HOUR, MINUTE, 59 * SECOND, -5)] == [
        *("1 day", "2 days", "1 minute", "59 s", "0 s")
    ]
    assert moment(1_767_225_600_000_000) == "2026-01-01 00:00"


def test_what_does_not_fit_is_cut() -> None:
    assert fitted("abc", 100) == "abc"
    assert re.fullmatch(r"a+…", fitted("a" * 50, 100))
