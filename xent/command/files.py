"""Batches in files: which columns are logits, labels and weights, and rows that come in chunks."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from xent.arrays import plain
from xent.arrow import COLUMNS
from xent.command.formats import (
    COLUMNS_OF,
    arrays,
    arrow_batches,
    npy,
    parquet_file,
    reals,
    tensors,
    transposed,
)
from xent.errors import InvalidBatch
from xent.tensors import Array

SUFFIXES: Final = ".npz, .npy (logits and labels), .safetensors, .parquet, .arrow, .feather, .csv"
LABEL_SUFFIXES: Final = ".npy, .npz, .safetensors, .parquet, .arrow, .feather, .csv"
LABELS: Final = ("label", "labels", "target", "y")
IDS: Final = ("sample_id", "sample_ids")
OTHERS: Final = ("sample_weight", "sample_weights", *IDS)
CSV_ROWS: Final = 4096
PAIR: Final = 2

Advance = Callable[[int], None]
"""Told how many rows were read."""


@dataclass(slots=True)
class Source:
    """A batch in files.

    Attributes:
        logits: as a client takes them; without labels, chunks that hold both. Or features, for a
            model of the service to make logits of.
        labels: ``None`` where they are in the chunks.
        sample_weights: likewise.
        sample_ids: names of the rows, where features have them.
        rows: how many there are, where that is known and they come in chunks.
        advance: told how many rows of chunks were read.
    """

    logits: object
    labels: object = None
    sample_weights: object = None
    sample_ids: list[Any] | None = None
    rows: int | None = None
    advance: Advance = lambda _: None


@dataclass(frozen=True, slots=True)
class Chunks:
    """Chunks that can be read again from the beginning.

    Attributes:
        read: begins to read.
        source: told of rows.
    """

    read: Callable[[], Iterator[Mapping[str, Any]]]
    source: Source

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for chunk in self.read():
            yield chunk
            self.source.advance(len(chunk["label"]))


def open_batch(paths: Sequence[Path], label: str | None = None) -> Source:
    """Return the batch that files hold.

    Args:
        paths: one file; or two of NumPy, logits and labels.
        label: the column of labels in a table; ``None`` for label, labels, target or y.

    Raises:
        InvalidBatch: files that are not there, of another kind, or without logits and labels.
        Missing: pyarrow is not installed, which Parquet and Arrow need.
    """
    return _opened(paths, "logits.npy labels.npy", lambda path: _one(path, label))


def open_features(paths: Sequence[Path], label: str | None = None) -> Source:
    """Return the features and labels that files hold, as a whole.

    Args:
        paths: one file; or two of NumPy, features and labels.
        label: the column of labels; ``None`` for label, labels, target or y.

    Raises:
        InvalidBatch: files that are not there, of another kind, or without features and labels.
        Missing: pyarrow is not installed, which Parquet and Arrow need.
    """
    return _opened(paths, "x.npy y.npy", lambda path: _one_of_features(path, label))


def _opened(paths: Sequence[Path], pair: str, read: Callable[[Path], Source]) -> Source:
    """Return what is read of one file, or the arrays of two.

    Args:
        paths: the files.
        pair: what two may be called.
        read: reads one.
    """
    try:
        if len(paths) == PAIR:
            first, labels = (npy(path) for path in paths)
            return Source(first, labels)
        if len(paths) != 1:
            raise InvalidBatch(f"give one file, or two: {pair}; not {len(paths)}")
        return read(paths[0])
    except OSError as error:
        raise InvalidBatch(f"{paths[0]}: {error.strerror or error}") from None


def _one(path: Path, label: str | None) -> Source:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidBatch(f"{path}: not one of {SUFFIXES}")
    return reader(path, label)


def _one_of_features(path: Path, label: str | None) -> Source:
    reader = COLUMNS_OF.get(path.suffix.lower())
    if reader is None:
        raise InvalidBatch(f"{path}: not one of {SUFFIXES}")
    columns = dict(reader(path))
    labels = _numbers(columns.pop(_label(list(columns), path, label)), path)
    others = {COLUMNS[name]: columns.pop(name) for name in OTHERS if name in columns}
    ids, weights = others.get("sample_id"), others.get("sample_weight")
    return Source(
        _features(columns, path),
        labels,
        None if weights is None else _numbers(weights, path),
        None if ids is None else list(plain(ids)),  # type: ignore[call-overload]
    )


def _features(columns: Mapping[str, Any], path: Path) -> object:
    """Return the features; of a table without a column of that name all numbers, in their order."""
    if "features" in columns:
        return _numbers(columns["features"], path)
    numbers = [
        np.asarray(_numbers(column, path))
        for column in columns.values()
        if isinstance(column, tuple) or _holds_numbers(getattr(column, "type", ""))
    ]
    if not numbers:
        raise InvalidBatch(f"{path} has no features, but {', '.join(columns) or 'labels'}")
    return np.column_stack(numbers)


def open_labels(path: Path, label: str | None = None) -> tuple[object, list[Any] | None]:
    """Return the labels that a file holds, and the names of their rows where it has them.

    Args:
        path: the file.
        label: the column of labels; ``None`` for label, labels, target or y.

    Raises:
        InvalidBatch: a file that is not there, of another kind, or without labels.
        Missing: pyarrow is not installed, which Parquet and Arrow need.
    """
    try:
        if path.suffix.lower() == ".npy":
            return npy(path), None
        reader = COLUMNS_OF.get(path.suffix.lower())
        if reader is None:
            raise InvalidBatch(f"{path}: not one of {LABEL_SUFFIXES}")
        columns = reader(path)
    except OSError as error:
        raise InvalidBatch(f"{path}: {error.strerror or error}") from None
    names = next((columns[name] for name in IDS if name in columns), None)
    found = _numbers(columns[_label(list(columns), path, label)], path)
    return found, None if names is None else list(plain(names))  # type: ignore[call-overload]


def _numbers(column: Any, path: Path) -> Any:  # noqa: ANN401  (of any library)
    """Return a column; one of text as the numbers that it says."""
    return _whole(reals([column], path, 2)[0]) if isinstance(column, tuple) else column


def _holds_numbers(kind: object) -> bool:
    """Tell whether a type of pyarrow is one of numbers."""
    return str(kind).startswith(("float", "halffloat", "double", "int", "uint"))


def _source(found: Mapping[str, Any], path: Path, label: str | None) -> Source:
    name = _label(list(found), path, label)
    if "logits" not in found:
        raise InvalidBatch(f"{path} has no logits, but {', '.join(found)}")
    weights = found.get("sample_weights", found.get("sample_weight"))
    return Source(found["logits"], found[name], weights)


def _label(names: Sequence[str], path: Path, label: str | None) -> str:
    for name in LABELS if label is None else (label,):
        if name in names:
            return name
    wanted = label or "label"
    raise InvalidBatch(f"{path} has no {wanted}, but {', '.join(names)}: name it with --label")


def _parquet(path: Path, label: str | None) -> Source:
    with parquet_file(path) as file:
        columns = _columns(file.schema_arrow, path, label)
    source = Source(None, rows=file.metadata.num_rows)

    def read() -> Iterator[Mapping[str, Any]]:
        for batch in file.iter_batches(columns=list(columns)):
            yield _chunk(batch, columns)

    source.logits = Chunks(read, source)
    return source


def _arrow(path: Path, label: str | None) -> Source:
    schema, _ = arrow_batches(path)
    columns = _columns(schema, path, label)
    source = Source(None)
    source.logits = Chunks(
        lambda: (_chunk(each, columns) for each in arrow_batches(path)[1]), source
    )
    return source


def _columns(schema: Any, path: Path, label: str | None) -> dict[str, str]:  # noqa: ANN401
    """Return what the wire calls each column that is read.

    Without a column ``logits`` all numbers that are nothing else are logits, in their order.
    """
    name = _label(schema.names, path, label)
    others = {each: COLUMNS[each] for each in schema.names if each in OTHERS}
    if "logits" in schema.names:
        return {"logits": "logits", name: "label", **others}
    numbers = [
        field.name
        for field in schema
        if field.name != name and field.name not in others and _holds_numbers(field.type)
    ]
    if not numbers:
        raise InvalidBatch(f"{path} has no logits, but {', '.join(schema.names)}")
    return {**dict.fromkeys(numbers, "logits"), name: "label", **others}


def _chunk(batch: Any, columns: Mapping[str, str]) -> dict[str, Any]:  # noqa: ANN401
    if columns.get("logits") == "logits":
        return {wire: batch.column(name) for name, wire in columns.items()}
    logits = [name for name, wire in columns.items() if wire == "logits"]
    # What is missing becomes NaN, which the service counts.
    stacked = np.column_stack(
        [np.asarray(batch.column(name).to_numpy(zero_copy_only=False)) for name in logits]
    )
    reals = stacked if stacked.dtype.kind == "f" else stacked.astype(np.float64)
    found = {wire: batch.column(name) for name, wire in columns.items() if wire != "logits"}
    return {"logits": reals, **found}


def _csv(path: Path, label: str | None) -> Source:
    with path.open(newline="", encoding="utf-8") as file:
        names = next(csv.reader(file), [])
    target = _label(names, path, label)
    others = {name: COLUMNS[name] for name in names if name in OTHERS}
    logits = [at for at, name in enumerate(names) if name != target and name not in others]
    if not logits:
        raise InvalidBatch(f"{path} has no columns of logits beside {target}")
    source = Source(None)

    def read() -> Iterator[Mapping[str, Any]]:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file)
            next(lines)
            line = 2
            while rows := list(islice(lines, CSV_ROWS)):
                columns = transposed(rows, names, path, line)
                chunk: dict[str, Any] = {
                    wire: columns[names.index(name)] for name, wire in others.items()
                }
                chunk["logits"] = reals([columns[at] for at in logits], path, line).T
                labels = reals([columns[names.index(target)]], path, line)[0]
                chunk["label"] = _whole(labels)
                if "sample_weight" in chunk:
                    chunk["sample_weight"] = reals([chunk["sample_weight"]], path, line)[0]
                yield chunk
                line += len(rows)

    source.logits = Chunks(read, source)
    return source


def _whole(labels: Array) -> Array:
    """Return labels of text as integers where they are such."""
    return labels.astype(np.int64) if (labels % 1 == 0).all() else labels


READERS: Final[Mapping[str, Callable[[Path, str | None], Source]]] = {
    ".npz": lambda path, label: _source(arrays(path), path, label),
    ".safetensors": lambda path, label: _source(tensors(path), path, label),
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".arrows": _arrow,
    ".feather": _arrow,
    ".ipc": _arrow,
    ".csv": _csv,
}
