"""Tables by column, as the service sends them, and as dataframes."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xent.errors import missing
from xent.tensors import Array

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Table(Mapping[str, Array]):
    """Columns of equal length: ``table["support"]``; a column of text holds Python's strings.

    What is absent is NaN in a column of numbers, and None in one of text.
    """

    def __init__(self, columns: Mapping[str, object]) -> None:
        self._columns = {str(name): _column(values) for name, values in columns.items()}

    @classmethod
    def of_rows(cls, rows: "list[Mapping[str, object]]") -> "Table":
        """Return a table of objects that have the same keys."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        return cls({name: [row.get(name) for row in rows] for name in names})

    def __getitem__(self, name: str) -> Array:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"Table({self.height} rows: {', '.join(self._columns)})"

    @property
    def height(self) -> int:
        """How many rows there are."""
        return len(next(iter(self._columns.values()), ()))

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as Python's objects; None where nothing is."""
        lists = {name: _plain(column) for name, column in self._columns.items()}
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]

    def to_pandas(self) -> "pd.DataFrame":
        """Return a dataframe.

        Raises:
            Missing: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415  (optional)
        except ImportError:
            raise missing("pandas", "to_pandas()") from None
        return pd.DataFrame(self._columns)

    def to_polars(self) -> "pl.DataFrame":
        """Return a dataframe.

        Raises:
            Missing: polars is not installed.
        """
        try:
            import polars as pl  # noqa: PLC0415  (optional)
        except ImportError:
            raise missing("polars", "to_polars()") from None
        return pl.DataFrame({name: _plain(column) for name, column in self._columns.items()})


def _column(values: object) -> Array:
    if isinstance(values, np.ndarray):
        return values
    entries: list[Any] = list(values)  # type: ignore[call-overload]
    kinds = {type(entry) for entry in entries if entry is not None}
    if kinds <= {int, float} and (kinds or not entries):
        whole = kinds == {int} and None not in entries
        return np.array(entries, dtype=np.int64 if whole else np.float64)  # None becomes NaN
    if kinds == {bool} and None not in entries:
        return np.array(entries, dtype=np.bool_)
    column = np.empty(len(entries), dtype=object)
    column[:] = entries
    return column


def _plain(column: Array) -> list[Any]:
    entries: list[Any] = column.tolist()
    if column.dtype.kind == "f":
        return [None if entry != entry else entry for entry in entries]  # noqa: PLR0124  (NaN)
    return entries
