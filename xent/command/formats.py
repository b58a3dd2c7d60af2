"""Formats of files: NumPy, safetensors, Parquet, Arrow and CSV, each column by its name."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np

from xent import safetensors
from xent.errors import InvalidBatch, Unreadable, missing
from xent.tensors import Array


def npy(path: Path) -> Array:
    """Return the array of a file of NumPy, mapped.

    Raises:
        InvalidBatch: a file of another kind.
    """
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, BadZipFile) as error:
        raise InvalidBatch(f"{path}: {error}") from None
    if not isinstance(array, np.ndarray):
        raise InvalidBatch(f"{path} is no .npy file")
    return array


def arrays(path: Path) -> Mapping[str, Any]:
    """Return the arrays of an archive of NumPy.

    Raises:
        InvalidBatch: a file of another kind.
    """
    try:
        # Opened here: NumPy does not close a file that is no archive.
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise InvalidBatch(f"{path} holds one array: call it .npy")
            return dict(file)
    except (ValueError, EOFError, BadZipFile) as error:
        raise InvalidBatch(f"{path}: {error}") from None


def tensors(path: Path) -> Mapping[str, Any]:
    """Return the tensors of a safetensors file, mapped: what is sent is read while it is sent.

    Raises:
        InvalidBatch: a file of another kind.
    """
    body = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.zeros(0, "u1")
    try:
        return safetensors.read(body.data).tensors
    except Unreadable as error:
        raise InvalidBatch(f"{path}: {error}") from None


@contextmanager
def parquet_file(path: Path) -> Iterator[Any]:
    """Yield the file; what turns out to be invalid about it is an invalid batch."""
    try:
        from pyarrow import ArrowInvalid, parquet  # noqa: PLC0415  (optional)
    except ImportError:
        raise missing("pyarrow", "reading Parquet") from None
    try:
        yield parquet.ParquetFile(path)
    except ArrowInvalid as error:
        raise InvalidBatch(f"{path}: {error}") from None


def arrow_batches(path: Path) -> Any:  # noqa: ANN401  (a schema and batches of pyarrow)
    """Return the schema and the record batches of an Arrow file or stream.

    Raises:
        InvalidBatch: a file of another kind.
        Missing: pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowInvalid, ipc, memory_map  # noqa: PLC0415  (optional)
    except ImportError:
        raise missing("pyarrow", "reading Arrow") from None
    try:
        try:
            file = ipc.open_file(memory_map(str(path)))
            return file.schema, (file.get_batch(at) for at in range(file.num_record_batches))
        except ArrowInvalid:
            stream = ipc.open_stream(memory_map(str(path)))
            return stream.schema, stream
    except ArrowInvalid as error:
        raise InvalidBatch(f"{path}: {error}") from None


def _parquet_columns(path: Path) -> Mapping[str, Any]:
    with parquet_file(path) as file:
        return _table_columns(file.read())


def _arrow_columns(path: Path) -> Mapping[str, Any]:
    schema, batches = arrow_batches(path)
    from pyarrow import Table  # noqa: PLC0415  (there: the line above needs it)

    return _table_columns(Table.from_batches(list(batches), schema))


def _table_columns(table: Any) -> Mapping[str, Any]:  # noqa: ANN401  (a table of pyarrow)
    return dict(zip(table.column_names, table.columns, strict=True))


def _csv_columns(path: Path) -> Mapping[str, Any]:
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        names = next(lines, [])
        rows = list(lines)
    columns = transposed(rows, names, path, 2) if rows else [()] * len(names)
    return dict(zip(names, columns, strict=True))


def transposed(
    rows: list[list[str]], names: list[str], path: Path, first: int
) -> list[tuple[str, ...]]:
    """Return the columns of lines of CSV.

    Args:
        rows: the fields of each line.
        names: those of the columns.
        path: of the file, for errors.
        first: the number of the first line.

    Raises:
        InvalidBatch: a line with more or fewer fields than there are names.
    """
    for number, row in enumerate(rows, first):
        if len(row) != len(names):
            raise InvalidBatch(
                f"{path}:{number} has {len(row)} fields, the first line {len(names)}"
            )
    return list(zip(*rows, strict=True))


def reals(columns: Sequence[Sequence[str]], path: Path, first: int) -> Array:
    """Return columns of text as the numbers that they say, (columns, lines), float64.

    Args:
        columns: the fields.
        path: of the file, for errors.
        first: the number of the first line.

    Raises:
        InvalidBatch: text that is no number.
    """
    try:
        return np.array(columns, dtype=np.float64)
    except ValueError as error:
        last = first + len(columns[0]) - 1
        raise InvalidBatch(f"{path}, lines {first} to {last}: {error}") from None


COLUMNS_OF: Final[Mapping[str, Callable[[Path], Mapping[str, Any]]]] = {
    ".npz": arrays,
    ".safetensors": lambda path: {name: each.numpy() for name, each in tensors(path).items()},
    ".parquet": _parquet_columns,
    ".csv": _csv_columns,
    **dict.fromkeys((".arrow", ".arrows", ".feather", ".ipc"), _arrow_columns),
}
