"""Columns and frames of pandas, polars and Arrow as arrays, without importing any of them."""

from typing import Any

import numpy as np

from xent.errors import InvalidBatch
from xent.tensors import Array


def column_array(value: Any, name: str) -> Array:  # noqa: ANN401  (of libraries not imported)
    """Return a column or a frame as an array, columns of lists as a matrix.

    Raises:
        InvalidBatch: values are missing, are no numbers, or are lists of different lengths.
    """
    _refuse_missing(value, name)
    if type(value).__module__.partition(".")[0] == "pyarrow":
        return _arrow(value, name)
    array: Array = value.to_numpy()
    return _stacked(array, name) if array.dtype == object else array


def _refuse_missing(value: Any, name: str) -> None:  # noqa: ANN401
    """Refuse missing values by the count of the library: as numbers they would be NaN."""
    count: Any = getattr(value, "null_count", None)
    if callable(count):
        count = count()
    if count is None and hasattr(value, "isna"):
        # NumPy's floats have no missing values but NaN, which the service counts by itself.
        dtypes = value.dtypes if value.ndim > 1 else [value.dtype]
        plain = all(isinstance(dtype, np.dtype) for dtype in dtypes)
        count = 0 if plain else int(value.isna().to_numpy().sum())
    if hasattr(count, "sum_horizontal"):  # polars: of a frame, a row of counts
        count = count.sum_horizontal().sum()
    if count:
        raise InvalidBatch(
            f"{name} have {count} missing values: leave such rows out, "
            "or mark them with ignore_index"
        )


def _arrow(value: Any, name: str) -> Array:  # noqa: ANN401
    if hasattr(value, "combine_chunks"):
        value = value.combine_chunks()
    if hasattr(value, "column_names"):  # a table or record batch: its columns are the classes
        return np.column_stack([_arrow(column, name) for column in value.itercolumns()])
    if not hasattr(value, "flatten") or value.type.num_fields == 0:
        return np.asarray(value.to_numpy(zero_copy_only=False))
    lengths = np.unique(np.asarray(value.value_lengths().to_numpy(zero_copy_only=False)))
    if len(lengths) > 1:
        raise InvalidBatch(f"{name} have lists of {lengths[0]} to {lengths[-1]} entries")
    numbers = np.asarray(value.flatten().to_numpy(zero_copy_only=False))
    return numbers.reshape(len(value), -1)


def _stacked(array: Array, name: str) -> Array:
    """Return an array of sequences as a matrix, one of Python's numbers as numbers."""
    entries = array.tolist()
    try:
        found = np.asarray([np.asarray(entry) for entry in entries])
    except ValueError:
        raise InvalidBatch(f"{name} have rows of different lengths") from None
    if found.dtype.kind not in "fiub":
        raise InvalidBatch(f"{name} hold something other than numbers")
    return found
