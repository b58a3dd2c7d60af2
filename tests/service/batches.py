"""Batches as the bodies of requests, in every order and framing that is legal."""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

Columns = Mapping[str, NDArray[Any]]
ARROW = "application/vnd.apache.arrow.stream"
DTYPES = {
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "int8": "I8",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "bool": "BOOL",
}


def safetensors(
    tensors: Columns,
    *,
    shift: int = 0,
    **request: Any,  # noqa: ANN401  (a document)
) -> bytes:
    """Write tensors in the order given; ``shift`` leaves them misaligned."""
    header: dict[str, object] = {"__metadata__": {"request": json.dumps(request)}}
    offset = 0
    for name, array in tensors.items():
        end = offset + array.nbytes
        entry = {"dtype": DTYPES[str(array.dtype)], "shape": array.shape}
        header[name] = {**entry, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8 + shift)
    data = b"".join(array.tobytes() for array in tensors.values())
    return struct.pack("<Q", len(text)) + text + data


def column(array: NDArray[np.generic]) -> pa.Array:
    """Return a column: plain for a vector, fixed-size lists for a matrix."""
    values = pa.array(np.ascontiguousarray(array).reshape(-1))
    if array.ndim == 1:
        return values
    return pa.FixedSizeListArray.from_arrays(values, array.shape[1])


def batch_of(columns: Mapping[str, Any]) -> pa.RecordBatch:
    """Return one record batch."""
    arrays = {
        name: column(each) if isinstance(each, np.ndarray) else pa.array(each)
        for name, each in columns.items()
    }
    return pa.record_batch(list(arrays.values()), names=list(arrays))


def cut(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """Cut a record batch."""
    for first in range(0, batch.num_rows, rows):
        yield batch.slice(first, rows)


def arrow(
    batches: Sequence[pa.RecordBatch],
    *,
    schema: pa.Schema | None = None,
    options: ipc.IpcWriteOptions | None = None,
    **request: Any,  # noqa: ANN401  (a document)
) -> bytes:
    """Write a stream."""
    schema = schema or batches[0].schema
    sink = pa.BufferOutputStream()
    metadata = {**(schema.metadata or {}), b"request": json.dumps(request).encode()}
    with ipc.new_stream(sink, schema.with_metadata(metadata), options=options) as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(None))
    body: bytes = sink.getvalue().to_pybytes()
    return body


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    """Cut a body, to be sent without a length."""
    for at in range(0, len(body), size):
        yield body[at : at + size]
