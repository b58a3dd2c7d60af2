"""Chunks, tables and files are sent while they are made, and answered like the whole."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from tests.xent.rows import LABELS, LOGITS, chunks
from xent import AsyncClient, Client, InvalidBatch, Missing, Retries
from xent.tensors import Array

LISTS = LOGITS.astype(float).tolist()
IDS = [f"row {at}" for at in range(60)]
TABLE = pa.table(
    {
        "logits": pa.FixedSizeListArray.from_arrays(pa.array(LOGITS.reshape(-1)), 4),
        "label": LABELS,
        "sample_id": IDS,
        "unrelated": IDS,
    }
)


@pytest.fixture
def whole(client: Client) -> float:
    loss = client.loss("focal", LOGITS, LABELS).loss
    assert loss is not None
    return loss


@pytest.mark.parametrize(
    "source",
    [
        TABLE,
        TABLE.to_batches()[0],
        pa.table({"logits": LISTS, "labels": LABELS}),
        pl.DataFrame({"logits": LISTS, "label": LABELS, "sample_id": IDS}),
        pd.DataFrame({"logits": LISTS, "label": LABELS}),
        TABLE.to_batches(max_chunksize=7),
        [{"logits": z, "labels": y} for z, y in chunks()],
        list(chunks()),
        [(torch.from_numpy(z).bfloat16().float(), torch.from_numpy(y)) for z, y in chunks()],
    ],
    ids=lambda source: type(source).__name__,
)
def test_tables_and_chunks_are_answered_like_the_whole(
    source: object, client: Client, whole: float
) -> None:
    rounded = isinstance(source, list) and not isinstance(source[0], pa.RecordBatch | dict)
    tolerance = 1e-2 if rounded else 1e-6
    answer = client.loss("focal", source, outputs=["hardest"])
    assert answer.loss == pytest.approx(whole, rel=tolerance)
    assert answer.rows.total == 60
    # What was sent twice is there twice: nothing was used up.
    assert client.loss("focal", source).loss == answer.loss


def test_rows_keep_their_names(client: Client) -> None:
    answer = client.loss("sparse", TABLE, outputs=["hardest"], k=3)
    assert answer.hardest is not None
    assert [f"row {row}" for row in answer.hardest["row"]] == answer.hardest["id"].tolist()
    parts = [{"logits": z, "labels": y, "sample_ids": y.astype(str)} for z, y in chunks()]
    named = client.loss("sparse", parts, outputs=["hardest"], k=3)
    assert named.hardest is not None
    assert named.hardest["id"].tolist() == [str(each) for each in named.hardest["label"]]
    whole = {"logits": LOGITS, "labels": LABELS, "sample_ids": pl.Series(IDS)}
    one = client.loss("sparse", whole, outputs=["hardest"], k=3)
    assert one.hardest is not None
    assert one.hardest["id"].tolist() == answer.hardest["id"].tolist()


def test_a_generator_is_sent_as_it_comes(client: Client, whole: float) -> None:
    drawn: list[int] = []
    told: list[int] = []

    def drawing() -> Iterator[tuple[Array, Array]]:
        for number, chunk in enumerate(chunks()):
            drawn.append(number)
            yield chunk

    answer = client.loss("focal", drawing(), progress=lambda *_: told.append(len(drawn)))
    assert answer.loss == pytest.approx(whole, rel=1e-12)
    assert told[0] == 1, "the first part leaves before the second chunk is drawn"
    assert drawn == list(range(5))


def test_weights_travel_in_chunks(client: Client) -> None:
    weights = np.arange(60, dtype=np.float32)
    expected = client.loss("sparse", LOGITS, LABELS, sample_weights=weights)
    parts = [(*chunk, weights[at * 13 : at * 13 + 13]) for at, chunk in enumerate(chunks())]
    assert client.loss("sparse", parts).loss == pytest.approx(expected.loss, rel=1e-12)


def test_one_logit_a_row_is_binary(client: Client) -> None:
    labels = LABELS % 2
    expected = client.loss("binary", LOGITS[:, 0], labels)
    found = client.loss("binary", [(LOGITS[:, 0], labels)])
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)


def test_a_stream_in_bfloat16_is_that_of_the_numbers(client: Client) -> None:
    rounded = torch.from_numpy(LOGITS).bfloat16()
    expected = client.loss("focal", rounded, LABELS).loss
    parts = [(rounded[:30], LABELS[:30]), (rounded[30:], LABELS[30:])]
    assert client.loss("focal", parts).loss == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ([], "no chunk"),
        ([(LOGITS, LABELS), (LOGITS[:, :2], LABELS)], "chunk 1 has columns"),
        ([(LOGITS, LABELS[:5])], "columns of different lengths"),
        ([5], "chunk 0 is a int"),
        ([(LOGITS, LABELS, LABELS, LABELS)], "chunk 0 is a tuple"),
        ([{"logits": LOGITS, "labels": LABELS, "weights": 1}], "chunk 0 has weights"),
        ([{"logits": LOGITS}], "no column label"),
        ([(LOGITS.reshape(60, 2, 2), LABELS)], "send such a batch as a whole"),
        (pa.table({"a": [1]}), "no column logits and no label among a"),
        (pa.table({"logits": [[1.0], [1.0, 2.0]], "label": [0, 1]}), "lists of 1 to 2"),
        (pa.table({"logits": [[1.0], None], "label": [0, 1]}), "1 missing values"),
        (pa.array([1, 2]), "labels are missing"),
        ([(LOGITS[:, :0], LABELS)], "logits of no class"),
    ],
)
def test_what_is_no_batch_is_refused(source: object, said: str, client: Client) -> None:
    with pytest.raises(InvalidBatch, match=said):
        client.loss("sparse", source)
    assert client.loss("sparse", LOGITS, LABELS).loss, "the client serves on"


def test_without_pyarrow_chunks_are_collected(
    client: Client, whole: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert client.loss("focal", chunks()).loss == pytest.approx(whole, rel=1e-12)
    rounded = torch.from_numpy(LOGITS).bfloat16()
    parts = [(rounded[:30], LABELS[:30]), (rounded[30:], LABELS[30:])]
    expected = client.loss("focal", rounded, LABELS, outputs=["gradient"])
    assert client.loss("focal", parts, outputs=["gradient"]).loss == expected.loss
    for source, said in (
        ([], "no chunk"),
        ([(LOGITS, LABELS), (LOGITS, LABELS.astype(float))], "several types"),
        ([(LOGITS, LABELS), (LOGITS[:, :2], LABELS)], "do not fit"),
    ):
        with pytest.raises(InvalidBatch, match=said):
            client.loss("focal", source)
    named = [{"logits": z, "labels": y, "sample_ids": y.astype(str)} for z, y in chunks()]
    hardest = client.loss("focal", named, outputs=["hardest"]).hardest
    assert hardest is not None
    assert hardest["id"].tolist() == [str(each) for each in hardest["label"]]
    with pytest.raises(Missing, match="pip install 'pyarrow'"):
        client.loss("focal", TABLE)
    with pytest.raises(Missing, match="pip install 'pyarrow'"):
        client.loss("focal", [TABLE])


@pytest.mark.anyio
async def test_chunks_may_come_asynchronously(url: str, whole: float) -> None:
    async def coming() -> AsyncIterator[object]:
        for chunk in chunks():
            yield chunk

    told: list[int] = []
    async with AsyncClient(url, retries=Retries(attempts=1)) as client:
        answer = await client.loss("focal", coming(), progress=lambda sent, _: told.append(sent))
        assert answer.loss == pytest.approx(whole, rel=1e-12)
        assert len(told) == 6
        assert (await client.loss("focal", chunks())).loss == answer.loss
    with Client(url) as waiting, pytest.raises(InvalidBatch, match="need AsyncClient"):
        waiting.loss("focal", coming())


def test_a_reader_is_read_once(client: Client, whole: float, tmp_path: Path) -> None:
    path = tmp_path / "batch.arrows"
    with pa.ipc.new_stream(path, TABLE.schema) as writer:
        writer.write_table(TABLE)
    with pa.ipc.open_stream(path) as reader:
        assert client.loss("focal", reader).loss == pytest.approx(whole, rel=1e-6)


def test_large_batches_are_told_of_as_they_leave(client: Client) -> None:
    logits = np.zeros((40_000, 20), dtype=np.float32)
    told: list[tuple[int, int | None]] = []
    client.loss(
        "sparse",
        logits,
        np.zeros(40_000, dtype=np.int64),
        progress=lambda sent, length: told.append((sent, length)),
    )
    assert len(told) == 4
    assert told[-1][0] == told[-1][1]
    assert sorted(told) == told


def test_a_chunk_may_be_empty_and_labels_a_dictionary(client: Client, whole: float) -> None:
    parts = [(LOGITS[:0], LABELS[:0]), (LOGITS, LABELS)]
    assert client.loss("focal", parts).loss == pytest.approx(whole, rel=1e-12)
    table = TABLE.set_column(1, "label", TABLE["label"].dictionary_encode())
    assert client.loss("focal", table).loss == pytest.approx(whole, rel=1e-6)


@pytest.mark.anyio
async def test_asynchronous_chunks_need_pyarrow(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def coming() -> AsyncIterator[object]:
        yield LOGITS, LABELS

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    async with AsyncClient(url) as client:
        with pytest.raises(InvalidBatch, match="need pyarrow"):
            await client.loss("sparse", coming())
