"""Plain-text tables for a terminal of 100 columns."""

import textwrap
from collections.abc import Sequence
from typing import Final

WIDTH: Final = 100


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with fixed digits; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def heading(text: str) -> str:
    """Return a section's title, underlined."""
    return f"\n{text}\n{'=' * len(text)}"


def paragraph(text: str) -> str:
    """Return text wrapped to the terminal."""
    return textwrap.fill(text, WIDTH)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return an aligned table.

    Args:
        columns: titles; the first ``left`` columns are words, the others numbers.
        rows: cells. A row that is shorter ends in a remark, wrapped within the width.
        left: how many columns are aligned to the left.
    """
    full = [row for row in rows if len(row) == len(columns)]
    words = [row[:left] for row in rows]
    widths = [
        max(
            len(title),
            *(len(row[place]) for row in full),
            *(len(row[place]) for row in words if place < left),
        )
        for place, title in enumerate(columns)
    ]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(aligned).rstrip()

    def remark(row: Sequence[str]) -> str:
        start = "  ".join(
            cell.ljust(width) for cell, width in zip(row[:left], widths, strict=False)
        )
        indent = " " * (len(start) + 2)
        return textwrap.fill(row[-1], WIDTH, initial_indent=f"{start}  ", subsequent_indent=indent)

    rule = "-" * len(line(["-" * width for width in widths]))
    body = [line(row) if len(row) == len(columns) else remark(row) for row in rows]
    return "\n".join([line(columns), rule, *body])


def picture(image: Sequence[Sequence[float]]) -> list[str]:
    """Return an image, 0 to 1, as lines of characters: two per pixel, for they are narrow."""
    shades = " .:-=+*#%@"
    last = len(shades) - 1
    return ["".join(shades[round(pixel * last)] * 2 for pixel in row) for row in image]


def side_by_side(blocks: Sequence[Sequence[str]], gap: int = 4) -> str:
    """Return blocks of lines next to each other."""
    widths = [max(map(len, block)) for block in blocks]
    height = max(map(len, blocks))
    lines = []
    for place in range(height):
        cells = [
            (block[place] if place < len(block) else "").ljust(width)
            for block, width in zip(blocks, widths, strict=True)
        ]
        lines.append((" " * gap).join(cells).rstrip())
    return "\n".join(lines)
