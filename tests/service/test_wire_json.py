"""JSON bodies: numbers straight into memory, and everything that is not what it claims to be."""

import base64
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.errors import InvalidDocument, Malformed, ServiceError, TooLarge
from service.wire import json as wire
from service.wire.payload import Body, Limits, Payload

LIMITS = Limits(rows=1000, classes=100, elements=10_000, document_entries=50)
FIELDS = ("settings", "class_axis", "class_names", "variants")


def decode(text: str | bytes, limits: Limits = LIMITS) -> Payload:
    raw = text.encode() if isinstance(text, str) else text
    return wire.decode(Body(np.frombuffer(raw, np.uint8)), limits, FIELDS)


def request(logits: str = "[[1, 2], [3, 4]]", labels: str = "[0, 1]", more: str = "") -> str:
    return f'{{"logits": {logits}, "labels": {labels}{more}}}'


def base64_tensor(array: np.ndarray, dtype: str, **changes: object) -> str:
    data = base64.b64encode(array.tobytes()).decode()
    return json.dumps({"dtype": dtype, "shape": array.shape, "data": data, **changes})


@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(max_dims=4, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False},
    )
)
def test_nested_lists_of_any_shape_arrive_exactly(array: np.ndarray) -> None:
    payload = decode(request(json.dumps(array.tolist()), "[0]"))
    assert payload.logits.dtype == torch.float64
    np.testing.assert_array_equal(payload.logits.numpy(), array)


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ("[0, -100]", torch.int64),
        ("[0, 1.5]", torch.float64),
        ("[true, false]", torch.bool),
        ("[[1, 0], [0, 1]]", torch.int64),
        ("[[true, false], [false, true]]", torch.bool),
        ("[9007199254740993, 0]", torch.int64),
        ("[9223372036854775808, 0]", torch.float64),
    ],
)
def test_labels_keep_their_kind(labels: str, dtype: torch.dtype) -> None:
    payload = decode(request(labels=labels))
    assert payload.labels is not None
    assert payload.labels.dtype == dtype
    assert payload.labels.tolist() == json.loads(labels)


def test_the_document_is_plain_and_sample_weights_are_a_tensor() -> None:
    more = (
        ', "sample_weights": [1, 0.5], "settings": {"alpha": [1, 2.5], "x": "a"}, "class_axis": 1'
    )
    payload = decode(request(more=more))
    assert payload.document == {"settings": {"alpha": [1, 2.5], "x": "a"}, "class_axis": 1}
    assert payload.sample_weights is not None
    assert payload.sample_weights.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("shape", ["[]", "[[], []]"])
def test_empty_lists_are_empty_tensors(shape: str) -> None:
    payload = decode(request(shape, "[]"))
    assert payload.logits.shape == np.array(json.loads(shape)).shape
    assert payload.labels is not None
    assert payload.labels.shape == (0,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} x", "not JSON"),
        (b'{"logits": [NaN]}', "not JSON: NaN at byte 12 .*base64, safetensors"),
        (b'{"logits": [[1, -Infinity]]}', "not JSON: -Infinity at byte 16 "),
        (b'{"class_names": ["NaN", "nan and inf"]', "not JSON: The JSON document"),
        (b'{"logits": [1e999]}', "number"),
        (b'{"logits": [1' + b"0" * 40 + b"]}", "integer"),
        (b"[" * 250_000, "not JSON"),
        (b'{"a":' * 250_000, "not JSON"),
        (b"[" * 250_000 + b"]" * 250_000, "not JSON"),
        (b'{"logits": "\xff"}', "UTF-8"),
        (b'{"class_axis": 1, "class_axis": 2}', "twice"),
        (b'{"logits": [[1]], "labels": [0], "settings": {"a": 1, "a": 2}}', "twice"),
    ],
)
def test_what_is_not_json_is_malformed(text: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        decode(text)


@pytest.mark.parametrize(
    ("logits", "says"),
    [
        ("[[1, 2], [3]]", r"logits\[1\] is a list of 1 among lists of 2"),
        ("[[1], [2, 3]]", r"logits\[1\] is a list of 2 among lists of 1"),
        ("[[1, 2], 3]", r"logits\[1\] is a number among lists of 2"),
        ("[1, [2, 3]]", r"logits\[1\] is a list among numbers"),
        ("[[[1, 2]], [[3]]]", r"logits\[1\]\[0\] is a list of 1"),
        ("[[[1]], [[2], [3]]]", r"logits\[1\] is a list of 2"),
        # Flattened, these have as many numbers as they should:
        ("[[1, 2], [3, [4]]]", r"logits\[1\]\[1\] is a list among numbers"),
        ("[[1, 2], [[3, 4], []]]", r"logits\[1\]\[0\] is a list among numbers"),
        ("[1, [2]]", r"logits\[1\] is a list among numbers"),
        ("[1, [], [2, 3]]", r"logits\[1\] is a list among numbers"),
        ("[[null, [1]]]", r"logits\[0\]\[1\] is a list|logits/0/0"),
    ],
)
@pytest.mark.parametrize(
    "names", ["", ', "class_names": ["[", "["]', r', "class_names": ["\\[", "\""]']
)
def test_ragged_lists_are_malformed(logits: str, says: str, names: str) -> None:
    with pytest.raises((Malformed, InvalidDocument), match=says) as raised:
        decode(request(logits, more=names))
    (fault,) = raised.value.faults
    assert fault.pointer.startswith("/logits/")


@pytest.mark.parametrize("names", [["[UNK]", "[[["], ["\\[", "]["], ["\u005b", "a"]])
def test_brackets_in_names_are_no_lists(names: list[str]) -> None:
    text = json.dumps(names).replace("a", r"\u005b")
    payload = decode(request(more=f', "class_names": {text}, "settings": {{"[": 1}}'))
    assert payload.document["class_names"] == json.loads(text)


@pytest.mark.parametrize(
    ("logits", "labels", "pointer"),
    [
        ("[[1, null]]", "[0]", "/logits/0/1"),
        ("[[1, 2], null]", "[0]", "/logits/1"),
        ('[["1", 2]]', "[0]", "/logits/0/0"),
        ("[[true, 2]]", "[0]", "/logits/0/0"),
        ("[[{}, 2]]", "[0]", "/logits/0/0"),
        ("[1]", "[null]", "/labels/0"),
        ("[1]", '["cat"]', "/labels/0"),
        ("[1, 2]", "[true, 1]", "/labels"),
        ("[1, 2]", "[1, true]", "/labels/1"),
        ("3", "[0]", "/logits"),
        ("null", "[0]", "/logits"),
        ("[1]", '"abc"', "/labels"),
    ],
)
def test_what_is_no_number_is_named(logits: str, labels: str, pointer: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        decode(request(logits, labels))
    assert [fault.pointer for fault in caught.value.faults] == [pointer]


def test_a_list_among_booleans_is_ragged() -> None:
    with pytest.raises(Malformed, match=r"labels\[1\] is a list"):
        decode(request("[1]", "[true, [1]]"))


def test_infinite_logits_have_a_way_out() -> None:
    with pytest.raises(InvalidDocument, match="base64"):
        decode(request("[[null]]", "[0]"))


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("[1]", ""),
        ('{"labels": [1]}', "/logits"),
        ('{"logits": [1]}', "/labels"),
        (request(more=', "lables": 1'), "/lables"),
        (request(more=', "a/b~": 1'), "/a~1b~0"),
        (request(more="".join(f', "k{index}": 1' for index in range(70))), ""),
        (request('{"dtype": "float32", "shape": [1]}'), "/logits"),
        (request('{"dtype": "float32", "shape": [1], "data": "", "x": 1}'), "/logits/x"),
        (request('{"dtype": "float31", "shape": [1], "data": ""}'), "/logits/dtype"),
        (request('{"dtype": "float32", "shape": 1, "data": ""}'), "/logits/shape"),
        (request('{"dtype": "float32", "shape": [1], "data": 7}'), "/logits/data"),
    ],
)
def test_what_is_no_request_is_named(text: str, pointer: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        decode(text)
    assert caught.value.faults[0].pointer == pointer


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64", "bool"])
def test_base64_tensors_arrive_exactly(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    payload = decode(request(base64_tensor(array, dtype)))
    np.testing.assert_array_equal(payload.logits.numpy(), array)


def test_bfloat16_and_empty_base64_tensors() -> None:
    bits = np.array([[0x3F80, 0xC000]], np.uint16)
    payload = decode(
        request(base64_tensor(bits, "bfloat16"), base64_tensor(np.empty((0, 4)), "float64"))
    )
    assert payload.logits.tolist() == [[1.0, -2.0]]
    assert payload.labels is not None
    assert payload.labels.shape == (0, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "AAAA"},
        {"data": "AAAAAAA*AAA="},
        {"data": "AAAAAAAAAAAA"},
        {"data": "ÄAAAAAAAAAA="},
        {"shape": [2, -1]},
        {"shape": [2, 1.0]},
        {"shape": [True, 2]},
        {"shape": [1] * 9},
    ],
)
def test_base64_that_does_not_hold_its_shape_is_malformed(changes: dict[str, object]) -> None:
    tensor = base64_tensor(np.zeros((1, 2), np.float32), "float32", **changes)
    with pytest.raises(Malformed):
        decode(request(tensor))


def test_bools_are_zero_or_one() -> None:
    with pytest.raises(Malformed, match="bool"):
        decode(request(labels=base64_tensor(np.array([2, 0], np.uint8), "bool")))


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ([2**40, 2**20], "elements"),
        ([2**32, 2**32], "elements"),
        ([2**63, 2**63], "elements"),
        ([1, 101], "classes"),
        ([1001, 1], "rows"),
        ([101, 1, 10], "rows"),
    ],
)
def test_declared_shapes_are_checked_before_anything_is_made(shape: list[int], says: str) -> None:
    tensor = base64_tensor(np.zeros(1, np.float32), "float32", shape=shape)
    with pytest.raises(TooLarge, match=says):
        decode(request(tensor))


def test_lists_are_held_to_the_same_limits() -> None:
    with pytest.raises(TooLarge, match="classes"):
        decode(request(json.dumps([[0] * 101])))
    with pytest.raises(TooLarge, match="elements"):
        decode(request(labels=json.dumps([0] * 10_001)))
    with pytest.raises(TooLarge, match="entries"):
        decode(request(more=', "class_names": ' + json.dumps(["a"] * 51)))
    with pytest.raises(TooLarge, match="entries"):
        decode(request(more=', "settings": ' + json.dumps([{"a": 1}] * 30)))


def test_nothing_deeper_than_a_document_is_built() -> None:
    payload = decode(request(more=', "settings": [[[[[[[1]]]]], {"a": {"b": {"c": {"d": 1}}}}]]'))
    assert payload.document["settings"] == [[[[[[]]]], {"a": {"b": {"c": {}}}}]]


def test_answers_are_valid_json_and_count_what_is_not_finite() -> None:
    document = {
        "gradient": torch.tensor([[1.0, math.nan], [math.inf, 0.5]]).T,
        "half": torch.tensor([1.5, math.nan], dtype=torch.bfloat16),
        "count": torch.tensor([1, 2]),
        "scalar": torch.tensor(2.5),
        "loss": math.nan,
        "list": [1.0, math.inf, None, "x"],
        "empty": torch.empty((0, 3)),
    }
    (body,) = wire.encode(document)
    assert json.loads(body) == {
        "gradient": [[1.0, None], [None, 0.5]],
        "half": [1.5, None],
        "count": [1, 2],
        "scalar": 2.5,
        "loss": None,
        "list": [1.0, None, None, "x"],
        "empty": [],
        "nulls": 5,
    }


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    with pytest.raises(ServiceError):
        decode(raw)
