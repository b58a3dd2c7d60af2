"""What is answered row by row, collected chunk by chunk."""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final

import torch
from torch import Tensor

from xentcore.memory import empty_on_host
from xentcore.row_statistics import RowStatistics


class RowStatus(IntEnum):
    """What became of one row."""

    EVALUATED = 0
    IGNORED = 1
    NONFINITE = 2
    INFINITE = 3


LOSS_COLUMNS: Final = ("per_sample", "status")
RECORD_COLUMNS: Final = ("weight", "label")
STATISTICS_COLUMNS: Final = (
    "max_logit",
    "log_partition",
    "target_probability",
    "margin",
    "entropy",
    "el2n",
    "rank",
)


class RowOutputs:
    """Columns with one number per row, each a list of tensors whose rows follow one another.

    ``per_sample`` is each row's contribution to the sum and ``status`` its :class:`RowStatus`, both
    in the labels' shape. ``weight`` is what the row adds to the ``weights`` denominator, ``label``
    its class, NaN for none. The others are those of :func:`statistics_columns`. All in the rows'
    shape.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._parts: dict[str, list[Tensor]] = {name: [] for name in names}

    def add(self, columns: Mapping[str, Tensor]) -> None:
        """Append rows to the columns."""
        for name, column in columns.items():
            self._parts[name].append(column.cpu())

    def merge(self, other: "RowOutputs") -> None:
        """Append the rows of another evaluation."""
        for name, parts in other._parts.items():  # noqa: SLF001  (one of its own kind)
            self._parts[name] += parts

    def in_shape(self, labels: tuple[int, ...], rows: tuple[int, ...]) -> "RowOutputs":
        """Return the rows of a chunk in one part per column: losses as labels, others as rows."""
        shaped = RowOutputs(self._parts)
        for name in self._parts:
            shape = labels if name in LOSS_COLUMNS else rows
            shaped.add({name: self.column(name).reshape(shape)})
        return shaped

    def column(self, name: str) -> Tensor:
        """Return all rows of a column, along the first axis."""
        parts = self._parts[name]
        if len(parts) < 2:  # noqa: PLR2004  (a single part is not copied)
            dtype = torch.int8 if name == "status" else torch.float64
            return parts[0] if parts else torch.empty(0, dtype=dtype)
        rows = sum(map(len, parts))
        whole = empty_on_host((rows, *max(parts, key=Tensor.dim).shape[1:]), parts[0].dtype)
        return torch.cat(parts, out=whole)


def statistics_columns(statistics: RowStatistics, largest: Tensor) -> dict[str, Tensor]:
    """Return the row statistics as float64 columns, (rows,).

    Args:
        statistics: rows that were measured.
        largest: the largest of each row's logits, as the variant has them, (rows,).

    ``max_logit`` and ``log_partition`` = log sum exp(z - max z) add up to the log-sum-exp of the
    row; kept apart, they lose nothing to a large common offset. ``el2n`` = ||p - t||; ``rank``
    counts the classes whose logit is larger than the label's; ``margin`` is the label's logit less
    the largest other one.
    """
    return {
        "max_logit": largest.double(),
        "log_partition": statistics.log_partition,
        "target_probability": statistics.target_probability,
        "margin": statistics.margin,
        "entropy": statistics.entropy,
        "el2n": statistics.brier.sqrt(),
        "rank": statistics.rank.double(),
    }
