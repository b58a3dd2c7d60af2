"""safetensors bodies, with the format's own package as the client."""

import json
import struct
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from service.errors import InvalidDocument, Malformed, ServiceError, TooLarge
from service.wire import safetensors as wire
from service.wire.payload import Body, Limits, Payload

LIMITS = Limits(rows=1000, classes=100, elements=10_000, document_entries=50)
FIELDS = ("settings", "class_axis", "reduction")
TENSORS = {"logits": torch.tensor([[1.0, -2.0], [0.5, 3.0]]), "labels": torch.tensor([0, 1])}


def decode(raw: bytes, limits: Limits = LIMITS) -> Payload:
    return wire.decode(Body(np.frombuffer(bytearray(raw), np.uint8)), limits, FIELDS)


def body(
    header: Mapping[str, object] | bytes, data: bytes = b"", length: int | None = None
) -> bytes:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + data


def entry(
    dtype: str = "F32", shape: object = (1, 2), offsets: object = (0, 8)
) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def two(
    logits: Mapping[str, object], labels: Mapping[str, object] | None = None
) -> dict[str, object]:
    return {"logits": logits, "labels": labels or entry("U8", [1], [8, 9])}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "labels",
    [torch.int8, torch.int64, torch.uint8, torch.uint16, torch.uint64, torch.bool, torch.float32],
)
def test_tensors_arrive_exactly(dtype: torch.dtype, labels: torch.dtype) -> None:
    sent = {"logits": TENSORS["logits"].to(dtype), "labels": torch.tensor([0, 1]).to(labels)}
    payload = decode(save(sent))
    assert payload.document == {}
    assert torch.equal(payload.logits, sent["logits"])
    assert payload.labels is not None
    assert torch.equal(payload.labels, sent["labels"])


def test_everything_at_once_and_in_place() -> None:
    more = {"sample_weights": torch.tensor([1.0, 0.5]), "class_weights": torch.tensor([2.0, 1.0])}
    metadata = {"request": json.dumps({"settings": {"a": 1}}), "format": "pt"}
    raw = Body(np.frombuffer(bytearray(save({**TENSORS, **more}, metadata)), np.uint8))
    payload = wire.decode(raw, LIMITS, FIELDS)
    assert payload.document == {"settings": {"a": 1}}
    assert payload.sample_weights is not None
    assert payload.class_weights is not None
    assert payload.labels is not None
    start = raw.ctypes.data
    for tensor in (payload.logits, payload.labels, payload.sample_weights, payload.class_weights):
        assert start <= tensor.data_ptr() < start + len(raw)


def test_misaligned_tensors_are_copied() -> None:
    header = {"labels": entry("U8", [1], [0, 1]), "logits": entry("F32", [1, 2], [1, 9])}
    raw = body(header, b"\x01" + struct.pack("<2f", 1.5, -2.0))
    payload = decode(raw)
    assert payload.logits.tolist() == [[1.5, -2.0]]
    assert payload.logits.data_ptr() % 4 == 0


def test_empty_tensors() -> None:
    payload = decode(
        save({"logits": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.long)})
    )
    assert payload.logits.shape == (0, 4)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "at least 8 bytes"),
        (b"\0" * 7, "at least 8 bytes"),
        (body(b""), "start with"),
        (body(b"[]"), "start with"),
        (body(b" {}"), "start with"),
        (body(b"{}", length=3), "there are 2"),
        (body(b"{}", length=1), "not JSON"),
        (body(b"{}", length=2**64 - 1), "more than 100000000"),
        (body(b"{}", length=100_000_000), "there are 2"),
        (body(b"{" * 250_000), "not JSON"),
        (body(b'{"logits": {}, "logits": {}}'), "twice"),
        (body({"logits": 1}), "no object"),
        (body({"logits": {"dtype": "F32"}}), "lacks data_offsets, shape"),
        (body({"__metadata__": 1}), "no object"),
        (body({"__metadata__": {"request": 1}}), "no string"),
        (body({"__metadata__": {"request": "{"}}), "not JSON"),
        (body(two(entry(shape=2))), "shape is no list"),
        (body(two(entry(shape=[1] * 70))), "70 entries"),
        (body(two(entry(shape=[1] * 9))), "9 dimensions"),
        (body(two(entry(shape=[-1, 2]))), "whole numbers"),
        (body(two(entry(shape=[1.0, 2]))), "whole numbers"),
        (body(two(entry(shape=[True, 2]))), "whole numbers"),
        (body(two(entry(shape=["1", 2]))), "whole numbers"),
        (body(two(entry(offsets=[0]))), "two numbers"),
        (body(two(entry(offsets=[0, 8, 9]))), "two numbers"),
        (body(two(entry(offsets=[0, 7])), b"\0" * 9), "need 8 bytes"),
        (body(two(entry(offsets=[8, 0])), b"\0" * 9), "need 8 bytes"),
        (body(two(entry(offsets=[1, 9])), b"\0" * 9), "starts at byte"),
        (body(two(entry(), entry("U8", [1], [7, 8])), b"\0" * 9), "starts at byte 7"),
        (body(two(entry(), entry("U8", [1], [9, 10])), b"\0" * 10), "starts at byte 9"),
        (body(two(entry()), b"\0" * 8), "8 follow"),
        (body(two(entry()), b"\0" * 10), "10 follow"),
        (body(two(entry(), entry("BOOL", [1], [8, 9])), b"\0" * 8 + b"\x02"), "bool"),
    ],
)
def test_what_does_not_fit_the_bytes_is_malformed(raw: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        decode(raw)


@pytest.mark.parametrize(
    ("header", "pointer"),
    [
        ({}, "/logits"),
        ({"logits": entry()}, "/labels"),
        ({"weights": entry()}, "/weights"),
        ({"__metadata__": {"author": "x"}}, "/__metadata__/author"),
        ({"__metadata__": {"request": "[]"}}, ""),
        ({"__metadata__": {"request": '{"logits": [1]}'}}, "/logits"),
        (two(entry("F8_E4M3")), "/logits"),
        (two({**entry(), "scale": 1}), "/logits/scale"),
    ],
)
def test_what_is_no_request_is_named(header: dict[str, object], pointer: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        decode(body(header))
    assert caught.value.faults[0].pointer == pointer


@pytest.mark.parametrize("shape", [[2**40, 2**20], [2**32, 2**32], [2**63, 2**63], [1, 101]])
def test_declared_shapes_are_checked_first(shape: list[int]) -> None:
    with pytest.raises(TooLarge):
        decode(body(two(entry(shape=shape))))


def test_every_truncation_is_refused() -> None:
    raw = save(TENSORS, {"request": "{}"})
    for length in range(len(raw)):
        with pytest.raises(ServiceError):
            decode(raw[:length])


def test_answers_are_read_by_the_formats_own_package() -> None:
    gradient = torch.randn(3, 4).to(torch.bfloat16)
    document = {
        "loss": 0.5,
        "gradient": gradient.T,
        "per_sample": torch.tensor([1.0, float("nan")], dtype=torch.float64),
        "per_class": {"class": torch.tensor([0, 1]), "name": ["a", "b"], "empty": torch.empty(0)},
        "distribution": {"p50": 1.0, "p90": float("inf")},
    }
    raw = b"".join(wire.encode(document))
    tensors: dict[str, Tensor] = load(raw)
    assert set(tensors) == {"gradient", "per_sample", "per_class.class", "per_class.empty"}
    assert torch.equal(tensors["gradient"], gradient.T)
    assert tensors["per_sample"].tolist()[0] == 1.0
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0
    response = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["response"])
    assert response == {
        "loss": 0.5,
        "per_class": {"name": ["a", "b"]},
        "distribution": {"p50": 1.0, "p90": None},
        "nulls": 1,
    }


def test_answers_of_a_comparison_name_their_result() -> None:
    results = [{"name": "a", "gradient": torch.ones(1)}, {"name": "b", "gradient": torch.zeros(1)}]
    tensors = load(b"".join(wire.encode({"results": results})))
    assert set(tensors) == {"results.0.gradient", "results.1.gradient"}
