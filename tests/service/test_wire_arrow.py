"""Arrow streams: what is refused, and that no bytes whatever are read where they are not."""

import random
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from pyarrow import ipc

from service.errors import InvalidDocument, Malformed, ServiceError, TooLarge
from service.wire.arrow import ArrowStream
from service.wire.arrow_columns import Ids, columns_of
from service.wire.arrow_message import bytes_needed
from service.wire.payload import Body, Limits, Payload
from service.wire.piece import Piece
from service.wire.stream import Part, Terms
from tests.service.batches import arrow, batch_of

LIMITS = Limits(rows=1000, classes=100, elements=10_000, document_entries=50)
FIELDS = ("settings", "class_axis", "reduction", "sample_ids")
LOGITS = np.arange(12, dtype=np.float32).reshape(4, 3)
LABELS = np.array([0, 1, 2, 0])
BATCH = batch_of({"logits": LOGITS, "label": LABELS})
GOOD = arrow([BATCH, BATCH])


class Kept:
    """A consumer that copies what it is handed."""

    def __init__(self, *, keep: bool = False) -> None:
        self.keep = keep
        self.payload: Payload | None = None
        self.parts: list[Part] = []

    def known(self, payload: Payload) -> bool:
        raise AssertionError(payload)

    def whole(self, payload: Payload) -> None:
        raise AssertionError(payload)

    def unknown(self, payload: Payload) -> bool:
        self.payload = payload
        return self.keep

    def add(self, part: Part) -> None:
        weights, names = part.sample_weights, part.sample_ids
        self.parts.append(
            Part(
                part.logits if self.keep else part.logits.clone(),
                part.labels if self.keep else part.labels.clone(),
                None if weights is None else weights.clone(),
                None if names is None else list(names),
            )
        )


def read(raw: bytes, size: int | None = None, *, keep: bool = False, **terms: int) -> Kept:
    kept = Kept(keep=keep)
    given = {"body_bytes": 1 << 20, "message_bytes": 1 << 16, "spool_bytes": 0, **terms}
    stream = ArrowStream(
        kept, Terms(limits=LIMITS, fields=FIELDS, length=None, folder=Path(), **given)
    )
    whole = np.frombuffer(bytearray(raw), np.uint8)
    for at in range(0, len(raw), size or len(raw) or 1):
        stream.push(Piece.of(Body(whole[at : at + (size or len(raw))])))
    stream.finish()
    stream.close()
    return kept


def of(columns: Mapping[str, pa.Array]) -> bytes:
    return arrow([pa.record_batch(list(columns.values()), names=list(columns))])


def lists(values: pa.Array, size: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(values, size)


FLOATS = lists(pa.array(LOGITS.reshape(-1)), 3)
INDEX = pa.array(LABELS)


@pytest.mark.parametrize("size", [1, 7, 64, 100, None])
@pytest.mark.parametrize("keep", [False, True])
def test_pieces_of_every_size(size: int | None, keep: bool) -> None:
    found = read(GOOD, size, keep=keep).parts
    assert torch.equal(torch.cat([part.logits for part in found]), torch.tensor(LOGITS).tile(2, 1))
    assert torch.equal(torch.cat([part.labels for part in found]), torch.tensor(LABELS).tile(2))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "labels",
    [*(LABELS.astype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64))],
    ids=str,
)
def test_numbers_of_every_width(dtype: type, labels: NDArray[Any]) -> None:
    batch = batch_of({"label": labels, "logits": LOGITS.astype(dtype)})
    (part,) = read(arrow([batch])).parts
    np.testing.assert_array_equal(part.logits, LOGITS.astype(dtype))
    np.testing.assert_array_equal(part.labels, labels)


def test_everything_at_once() -> None:
    columns = {
        "sample_id": ["a", "b", "c", "d"],
        "label": np.eye(3, dtype=bool)[LABELS],
        "sample_weight": np.array([1, 2, 3, 4], np.float16),
        "logits": LOGITS,
    }
    found = read(arrow([batch_of(columns)], settings={"a": 1}))
    assert found.payload is not None
    assert found.payload.document == {"settings": {"a": 1}}
    (part,) = found.parts
    assert part.labels.tolist() == np.eye(3, dtype=bool)[LABELS].tolist()
    assert part.sample_weights is not None
    assert part.sample_weights.tolist() == [1, 2, 3, 4]
    assert part.sample_ids == ["a", "b", "c", "d"]


def test_names_are_made_one_at_a_time() -> None:
    ids = Ids(pa.array([5, 6, 7]))
    assert (len(ids), ids[1], list(ids[1:]), list(ids)) == (3, 6, [6, 7], [5, 6, 7])


def test_record_batches_without_rows() -> None:
    found = read(arrow([BATCH.slice(0, 0), BATCH, BATCH.slice(0, 0)]))
    assert [len(part.logits) for part in found.parts] == [0, 4, 0]


@pytest.mark.parametrize(
    ("columns", "pointer", "says"),
    [
        ({"label": INDEX}, "/logits", "required"),
        ({"logits": FLOATS}, "/labels", "required"),
        ({"logits": FLOATS, "label": INDEX, "weight": INDEX}, "", "known: logits, label"),
        ({"logits": INDEX, "label": INDEX}, "/logits", "fixed-size list"),
        ({"logits": pa.array(LOGITS.tolist()), "label": INDEX}, "/logits", "fixed-size list"),
        ({"logits": lists(INDEX, 1), "label": INDEX}, "/logits", "float16"),
        ({"logits": FLOATS, "label": pa.array(["a"] * 4)}, "/labels", "integers"),
        (
            {"logits": FLOATS, "label": INDEX, "sample_weight": INDEX},
            "/sample_weights",
            "float16",
        ),
        (
            {"logits": FLOATS, "label": INDEX, "sample_id": pa.array([0.5] * 4)},
            "/sample_ids",
            "strings or integers",
        ),
        (
            {"logits": FLOATS, "label": pa.array([0, None, 1, 2])},
            "/labels",
            "no value in row 1",
        ),
        (
            {"logits": lists(pa.array([0.0] * 7 + [None] * 5, pa.float32()), 3), "label": INDEX},
            "/logits",
            "no value in entry 1 of row 2",
        ),
        (
            {
                "logits": pa.array([[1, 2], None] * 2, pa.list_(pa.float32(), 2)),
                "label": INDEX,
            },
            "/logits",
            "no value in row 1",
        ),
        (
            {"logits": FLOATS, "label": INDEX, "sample_id": pa.array(["a", "b", "c", None])},
            "/sample_ids",
            "row 3",
        ),
    ],
)
def test_columns_that_are_no_batch_are_named(
    columns: dict[str, pa.Array], pointer: str, says: str
) -> None:
    with pytest.raises(InvalidDocument, match=says) as caught:
        read(of(columns))
    assert caught.value.faults[0].pointer == pointer


def test_a_column_that_is_there_twice() -> None:
    batch = pa.record_batch([FLOATS, INDEX, INDEX], names=["logits", "label", "label"])
    with pytest.raises(InvalidDocument, match="twice"):
        read(arrow([batch]))


def test_no_classes() -> None:
    kind = pa.schema([("logits", pa.list_(pa.float32(), 0)), ("label", pa.int64())])
    with pytest.raises(InvalidDocument, match="as long as there are classes"):
        read(arrow([], schema=kind))


def test_dictionaries_and_compressed_buffers_are_refused() -> None:
    with pytest.raises(InvalidDocument, match="dictionaries are not read"):
        read(of({"logits": FLOATS, "label": INDEX.dictionary_encode()}))
    options = ipc.IpcWriteOptions(compression="zstd")
    with pytest.raises(InvalidDocument, match="Content-Encoding"):
        read(arrow([BATCH], options=options))


@pytest.mark.parametrize(
    ("request_", "pointer"),
    [
        ({"class_axis": 0}, "/class_axis"),
        ({"sample_ids": ["a"]}, "/sample_ids"),
        ({"logits": 1}, "/logits"),
    ],
)
def test_documents_that_do_not_fit(request_: dict[str, object], pointer: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        read(arrow([BATCH], **request_))
    assert caught.value.faults[0].pointer == pointer


def test_limits_hold_before_anything_is_kept() -> None:
    with pytest.raises(TooLarge, match="classes"):
        read(of({"logits": lists(pa.array(np.zeros(101, np.float32)), 101), "label": INDEX[:1]}))
    with pytest.raises(TooLarge, match="rows"):
        read(arrow([BATCH] * 251))
    with pytest.raises(TooLarge, match="fewer rows"):
        read(GOOD, message_bytes=300)
    huge = b"\xff\xff\xff\xff" + struct.pack("<i", 1 << 30)
    with pytest.raises(TooLarge, match="1073741832 bytes"):
        read(huge)


def frames(raw: bytes) -> list[tuple[int, int]]:
    """Return where each message begins and ends."""
    data = Body(np.frombuffer(raw, np.uint8))
    found = []
    at = 0
    while at < len(raw):
        needed = 0
        while (more := bytes_needed(Body(data[at : at + needed]), 1 << 20)) > needed:
            needed = more
        found.append((at, at + needed))
        at += needed
    return found


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "truncated"),
        (b"ARROW1\0\0" + GOOD, "FF FF FF FF"),
        (struct.pack("<i", 16) + GOOD[8:], "FF FF FF FF"),
        (b"\xff\xff\xff\xff" + struct.pack("<i", -8) + GOOD[8:], "negative"),
        (b"\xff\xff\xff\xff\0\0\0\0", "before its schema"),
        (GOOD[:-8], "end is marked"),
        (GOOD[:-1], "end is marked"),
        (GOOD + b"x", "follow the end"),
        (b"\xff\xff\xff\xff\x08\0\0\0" + b"\xff" * 8, "damaged"),
        (b"\xff\xff\xff\xff\x02\0\0\0\x04\0", "damaged"),
        (GOOD[frames(GOOD)[1][0] :], "begins with its schema"),
        (GOOD[: frames(GOOD)[0][1]] + GOOD, "behind its schema"),
    ],
)
def test_what_is_no_stream_is_malformed(raw: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        read(raw)
    with pytest.raises(Malformed, match=says):
        read(raw, 5)


def test_every_truncation_is_refused() -> None:
    for length in range(len(GOOD)):
        with pytest.raises(ServiceError):
            read(GOOD[:length])


def patched(raw: bytes, message: int, old: bytes, new: bytes, *, nth: int = 0) -> bytes:
    """Replace bytes in one message."""
    begin, end = frames(raw)[message]
    at = begin
    for _ in range(nth + 1):
        at = raw.index(old, at + 1, end)
    return raw[:at] + new + raw[at + len(old) :]


def test_lengths_that_lie() -> None:
    four, many = struct.pack("<q", 4), struct.pack("<q", 1 << 40)
    for nth in range(3):
        for new in (many, struct.pack("<q", -1), struct.pack("<q", 5)):
            with pytest.raises(ServiceError):
                read(patched(GOOD, 1, four, new, nth=nth))


def test_big_endian_numbers_are_refused() -> None:
    message = struct.pack("<HHHHHH", 12, 12, 0, 4, 8, 0) + struct.pack("<iBxxxI", 12, 1, 12)
    schema = struct.pack("<HHHxx", 6, 8, 4) + struct.pack("<ihxx", 8, 1)
    metadata = struct.pack("<I", 16) + message + schema
    with pytest.raises(InvalidDocument, match="little-endian"):
        read(b"\xff\xff\xff\xff" + struct.pack("<i", len(metadata)) + metadata)


def test_damaged_bytes_are_never_read_beyond_their_end() -> None:
    columns = {
        "sample_id": ["a", "bb", "ccc", "d"],
        "label": np.eye(3, dtype=bool)[LABELS],
        "sample_weight": np.array([1, 2, 3, 4], np.float64),
        "logits": LOGITS,
    }
    rich = arrow([batch_of(columns)] * 2)
    chance = random.Random(3)  # noqa: S311
    outcomes = set()
    for raw in (GOOD, rich):
        for _ in range(2000):
            found = bytearray(raw)
            for _ in range(chance.choice([1, 1, 2, 5])):
                found[chance.randrange(len(found))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, 64])
            try:
                read(bytes(found), chance.choice([None, 64]))
            except ServiceError as error:
                outcomes.add(type(error))
    assert outcomes == {Malformed, InvalidDocument, TooLarge}


def test_buffers_outside_of_their_message_are_not_read() -> None:
    elsewhere = Body(np.zeros(1 << 16, np.uint8))
    with pytest.raises(Malformed, match="not in its message"):
        columns_of(BATCH.schema).part(BATCH, elsewhere)
