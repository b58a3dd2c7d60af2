"""Arrow streams: tables, and batches that come chunk by chunk without an end in sight.

Needs pyarrow, which is loaded when a stream is made. A stream is sent while it is made, so that
what is held does not grow with it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from xent.arrays import logits_of, plain, tensor_of
from xent.errors import InvalidBatch, missing
from xent.safetensors import Buffer
from xent.tensors import BFLOAT16, Tensor

MEDIA_TYPE: Final = "application/vnd.apache.arrow.stream"
RECORD_BATCH_BYTES: Final = 1 << 22
"""A record batch is read as one: so large that frames cost nothing, small for both sides."""

COLUMNS: Final[Mapping[str, str]] = {
    "logits": "logits",
    "labels": "label",
    "label": "label",
    "sample_weights": "sample_weight",
    "sample_weight": "sample_weight",
    "sample_ids": "sample_id",
    "sample_id": "sample_id",
}
"""What callers call a column, and what the wire does. Other columns are not sent."""

REQUIRED: Final = ("logits", "label")
MATRIX: Final = 2  # axes


def installed() -> bool:
    """Tell whether pyarrow is there."""
    try:
        import pyarrow as pa  # noqa: PLC0415  (optional)
    except ImportError:
        return False
    return bool(pa.__version__)


def is_tabular(value: object) -> bool:
    """Tell whether a value is a table that Arrow can read: its own, or of whoever exports it."""
    return hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")


class Encoder:
    """Makes a stream of chunks.

    Args:
        document: the request's.
    """

    def __init__(self, document: Mapping[str, object]) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415  (optional)
        except ImportError:
            raise missing("pyarrow", "sending a stream") from None
        self._pa: Any = pa
        self._document = document
        self._sink = _Sink()
        self._writer: Any = None
        self._schema: Any = None
        self._chunks = 0

    def add(self, chunk: object) -> Iterator[Buffer]:
        """Yield the bytes of one more chunk.

        Args:
            chunk: ``(logits, labels)``, ``(logits, labels, sample_weights)``, a mapping with these
                names and perhaps ``sample_ids``, or a table of Arrow.

        Raises:
            InvalidBatch: not the columns of the chunks before it.
        """
        for batch in self._batches(chunk):
            if self._writer is None:
                metadata = {"request": json.dumps(self._document)}
                self._schema = batch.schema
                schema = batch.schema.with_metadata(metadata)
                self._writer = self._pa.ipc.new_stream(self._sink, schema)
            if not batch.schema.equals(self._schema):
                raise InvalidBatch(
                    f"chunk {self._chunks} has columns {_said(batch.schema)}, "
                    f"those before it {_said(self._schema)}"
                )
            self._writer.write_batch(batch)
            yield from self._sink.take()
        self._chunks += 1

    def end(self) -> Iterator[Buffer]:
        """Yield the mark at the end.

        Raises:
            InvalidBatch: there was no chunk.
        """
        if self._writer is None:
            raise InvalidBatch("there is no chunk: a stream needs one to say how many classes")
        self._writer.close()
        yield from self._sink.take()

    def _batches(self, chunk: object) -> Iterator[Any]:
        columns = self._tabular(chunk) if is_tabular(chunk) else self._arrays(chunk)
        for each in columns:
            rows = max(1, RECORD_BATCH_BYTES * each.num_rows // max(1, each.nbytes))
            for first in range(0, each.num_rows, rows):
                yield each.slice(first, rows)
            if not each.num_rows:
                yield each

    def _arrays(self, chunk: object) -> Iterator[Any]:
        arrays = {}
        for name, value in named(chunk, self._chunks).items():
            if name == "sample_id":
                arrays[name] = self._pa.array(plain(value))
                continue
            read = logits_of if name == "logits" else tensor_of
            arrays[name] = self._column(read(value, f"chunk {self._chunks}: {name}"))
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidBatch(f"chunk {self._chunks} has columns of different lengths: {lengths}")
        if not self._pa.types.is_fixed_size_list(arrays["logits"].type):
            # One logit per row: the wire wants to know that it is one.
            arrays["logits"] = self._lists(arrays["logits"], 1)
        yield self._pa.record_batch(list(arrays.values()), names=list(arrays))

    def _column(self, tensor: Tensor) -> Any:  # noqa: ANN401  (of pyarrow)
        if len(tensor.shape) not in (1, MATRIX):
            raise InvalidBatch(
                f"chunks are rows of classes, not of shape {tensor.shape}: "
                "send such a batch as a whole"
            )
        # Arrow has no bfloat16; float32 holds all of its numbers.
        values = tensor.numpy() if tensor.dtype == BFLOAT16 else tensor.values
        flat = self._pa.array(values.reshape(-1))
        return flat if values.ndim == 1 else self._lists(flat, values.shape[1])

    def _lists(self, flat: Any, length: int) -> Any:  # noqa: ANN401
        if not length:
            raise InvalidBatch("logits of no class")
        return self._pa.FixedSizeListArray.from_arrays(flat, length)

    def chunks(self, source: object) -> Iterator[dict[str, Any]]:
        """Yield the record batches of a table, as columns in the wire's names and types.

        Raises:
            InvalidBatch: columns are missing, or are lists of different lengths.
        """
        for batch in self._record_batches(source):
            found = {
                COLUMNS[name]: self._normal(COLUMNS[name], batch.column(name))
                for name in batch.schema.names
                if name in COLUMNS
            }
            _check_columns(found, batch.schema.names)
            yield found

    def _tabular(self, source: object) -> Iterator[Any]:
        for found in self.chunks(source):
            yield self._pa.record_batch(list(found.values()), names=list(found))

    def _record_batches(self, source: Any) -> Iterable[Any]:  # noqa: ANN401
        try:
            if hasattr(source, "__arrow_c_array__"):
                return [self._pa.record_batch(source)]
            reader: Iterable[Any] = self._pa.RecordBatchReader.from_stream(source)
        except (self._pa.ArrowInvalid, TypeError, ValueError) as error:
            raise InvalidBatch(
                f"labels are missing, or the table cannot be read: {error}"
            ) from None
        return reader

    def _normal(self, name: str, column: Any) -> Any:  # noqa: ANN401
        """Return a column in the types of the wire: lists of one length, plain texts."""
        types = self._pa.types
        if name == "sample_id" and not types.is_integer(column.type):
            return column.cast(self._pa.large_string())
        if types.is_dictionary(column.type):
            return column.dictionary_decode()
        if not (types.is_list(column.type) or types.is_large_list(column.type)):
            return column
        if column.null_count:
            raise InvalidBatch(f"the column {name} has {column.null_count} missing values")
        lengths = np.unique(column.value_lengths().to_numpy(zero_copy_only=False))
        if len(lengths) > 1:
            raise InvalidBatch(f"the column {name} has lists of {lengths[0]} to {lengths[-1]}")
        # Without a row nobody knows how long lists are.
        return self._lists(column.flatten(), int(lengths[0]) if len(lengths) else 1)


def named(chunk: object, number: int) -> dict[str, object]:
    """Return the parts of a chunk by the wire's names.

    Raises:
        InvalidBatch: it is none.
    """
    if isinstance(chunk, Mapping):
        unknown = [str(name) for name in chunk if name not in COLUMNS]
        if unknown:
            raise InvalidBatch(f"chunk {number} has {', '.join(unknown)}; known: {KNOWN}")
        found = {COLUMNS[name]: value for name, value in chunk.items() if value is not None}
    elif isinstance(chunk, Sequence) and len(chunk) in (2, 3):
        found = dict(zip(("logits", "label", "sample_weight"), chunk, strict=False))
    else:
        raise InvalidBatch(
            f"chunk {number} is a {type(chunk).__name__}: give (logits, labels), "
            "(logits, labels, sample_weights), a mapping with these names, or a table of Arrow"
        )
    _check_columns(found, list(found))
    return found


KNOWN: Final = "logits, labels, sample_weights, sample_ids"


def _check_columns(found: Mapping[str, object], there: Sequence[str]) -> None:
    absent = [name for name in REQUIRED if name not in found]
    if absent:
        raise InvalidBatch(f"there is no column {' and no '.join(absent)} among {', '.join(there)}")


def _said(schema: Any) -> str:  # noqa: ANN401  (of pyarrow)
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


class _Sink:
    """Takes what the writer writes until it is sent."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[Buffer] = []

    def write(self, data: Any) -> int:  # noqa: ANN401  (bytes or a buffer of pyarrow)
        part = bytes(data)
        self._parts.append(part)
        return len(part)

    def flush(self) -> None:
        """Do nothing: what is written is taken."""

    def take(self) -> Iterator[Buffer]:
        """Yield what was written, in one part."""
        parts, self._parts = self._parts, []
        if parts:
            yield b"".join(parts)
