"""The rows of largest loss, merged like a sum: the best of both lists."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from xentcore.result import HardRow

_FIELDS = 6


@dataclass(slots=True)
class Hardest:
    """At most ``limit`` rows, largest loss first; of equal losses the earliest row."""

    limit: int
    rows: list[HardRow] = field(default_factory=list)

    def candidates(self, loss: Tensor, finite: Tensor | None) -> list[int]:
        """Return the positions of the rows that may belong to the list, largest loss first.

        Args:
            loss: (rows,), float64.
            finite: rows whose loss is finite, (rows,), bool; ``None`` for all.
        """
        ranked = loss if finite is None else loss.masked_fill(~finite, -torch.inf)
        largest, places = (each.tolist() for each in ranked.topk(min(self.limit + 1, len(loss))))
        found = list(zip(largest, places, strict=True))
        if len(found) > self.limit and largest[-1] == largest[-2]:
            # Which of equal rows counts must not depend on topk's order: the first of them.
            bar = largest[-1]
            tied = (ranked == bar).nonzero()[: self.limit, 0].tolist()
            found = [each for each in found if each[0] > bar] + [(bar, place) for place in tied]
        found.sort(key=lambda each: (-each[0], each[1]))
        return [place for each, place in found[: self.limit] if each > -math.inf]

    def add(self, rows: Iterable[HardRow]) -> None:
        """Consider more rows."""
        merged = [*self.rows, *rows]
        merged.sort(key=lambda row: (-row.loss, row.row))
        self.rows = merged[: self.limit]

    def merge(self, other: "Hardest", *, first_row: int) -> None:
        """Consider the rows of another list, whose row 0 is this one's row ``first_row``."""
        rows = other.rows
        if first_row:
            rows = [replace(row, row=row.row + first_row) for row in rows]
        self.add(rows)

    def state(self) -> Tensor:
        """Return the rows as float64, (rows, 6); whole numbers are exact up to 2^53."""
        table = [
            [
                row.row,
                row.label,
                row.prediction,
                row.probability,
                row.loss,
                -1 if row.class_index is None else row.class_index,
            ]
            for row in self.rows
        ]
        return torch.tensor(table, dtype=torch.float64).reshape(-1, _FIELDS)

    def load(self, state: Tensor) -> None:
        """Replace the rows by what :meth:`state` returned."""
        self.rows = [
            HardRow(
                row=int(row),
                label=int(label),
                prediction=int(prediction),
                probability=probability,
                loss=loss,
                class_index=None if cls < 0 else int(cls),
            )
            for row, label, prediction, probability, loss, cls in state.tolist()
        ]
