"""Inference requests that are not what they claim to be: 400, and the server lives on."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.service.conftest import Start
from tests.service.harness import Running
from tests.service.inference import (
    BINARY,
    BLOBS,
    JSON,
    LABELS,
    LENGTH,
    LOGITS,
    behind,
    entry,
    in_json,
    infer,
    numbers,
)
from xentcore import VARIANTS

REQUEST = {"inputs": BINARY}
HEAD = json.dumps(REQUEST).encode()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}


@pytest.fixture(autouse=True)
def alive_afterwards(shared: Running) -> Iterator[None]:
    yield
    assert shared.alive()


def refused(response: httpx2.Response, status: int = 400, words: str = "") -> dict[str, Any]:
    problem: dict[str, Any] = response.json()
    assert response.status_code == status, problem
    assert response.headers["content-type"] == "application/json"
    assert isinstance(problem["error"], str)
    assert problem["error"] == problem["detail"]
    assert problem["status"] == status
    assert problem["request_id"]
    assert words in problem["error"]
    assert "Traceback" not in response.text
    return problem


@pytest.mark.parametrize(
    "length",
    [
        None,
        "0",
        "-1",
        "abc",
        "12abc",
        "1e2",
        "+5",
        "٣",
        str(len(HEAD) - 1),
        str(len(HEAD) + 1),
        str(len(HEAD) + len(BLOBS)),
        str(len(HEAD) + len(BLOBS) + 1),
        str(2**62),
        "9" * 500,
    ],
)
@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
def test_header_lengths(client: httpx2.Client, length: str | None, encoding: str) -> None:
    packed = COMPRESS[encoding](HEAD + BLOBS)
    headers: list[tuple[bytes, bytes]] = [(b"content-encoding", encoding.encode())]
    if length is not None:
        headers.append((LENGTH.encode(), length.encode()))
    refused(client.post("/v2/models/sparse/infer", content=packed, headers=headers))


def changed(place: int, **changes: object) -> dict[str, object]:
    """Return the request with an input changed."""
    inputs = [dict(each) for each in BINARY]
    inputs[place] |= changes
    return {"inputs": inputs}


@pytest.mark.parametrize(
    "size",
    [0, 1, LOGITS.nbytes - 1, LOGITS.nbytes + 1, -1, -(2**63), 10**12, 2**63, "120", 1.5, True],
)
def test_binary_sizes(client: httpx2.Client, size: object) -> None:
    refused(infer(client, changed(0, parameters={"binary_data_size": size}), BLOBS))


@pytest.mark.parametrize(
    "shape",
    [
        [6, 6],
        [5],
        [],
        [2**40, 2**20],
        [2**62, 4],
        [2**63, 0],
        [2**62, 0, 2**62],
        [6, -5],
        [-6, -5],
        [6, 5.0],
        [6, "5"],
        [6, True],
        [[6, 5]],
        [1] * 100,
        "6x5",
        None,
        {"0": 6},
    ],
    ids=str,
)
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_shapes(client: httpx2.Client, shape: object, binary: bool) -> None:
    if binary:
        refused(infer(client, changed(0, shape=shape), BLOBS))
    else:
        refused(infer(client, {"inputs": [{**JSON[0], "shape": shape}, JSON[1]]}))


@pytest.mark.parametrize("shape", [[2**62, 0], [0, 2**62], [2**62, 0, 2**62]], ids=str)
@pytest.mark.parametrize("place", [0, 1])
def test_shapes_of_nothing_that_are_beyond_reason(
    client: httpx2.Client, shape: list[int], place: int
) -> None:
    nothing = {"shape": shape, "parameters": {"binary_data_size": 0}}
    blobs = (LABELS if place == 0 else LOGITS).tobytes()
    response = infer(client, changed(place, **nothing), blobs)
    assert 400 <= response.status_code < 500, response.text
    assert response.json()["error"]


def test_sizes_that_fit_a_shape_which_is_not_there(client: httpx2.Client) -> None:
    huge = {"shape": [2**40, 2**20], "parameters": {"binary_data_size": 2**62}}
    refused(infer(client, changed(0, **huge), BLOBS), words="left behind the JSON")


def test_bytes_behind_the_last_tensor(client: httpx2.Client) -> None:
    for more in (b"x", bytes(100)):
        refused(infer(client, REQUEST, BLOBS + more), words="bytes follow the last tensor")
    refused(infer(client, {"inputs": JSON}, b"x"), words="bytes follow the last tensor")
    refused(infer(client, REQUEST, BLOBS[:-1]), words="are left behind the JSON")
    refused(infer(client, HEAD), words="no header says where the JSON ends")
    assert numbers(infer(client, {"inputs": JSON}, b""))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ([], "is a JSON object"),
        ({}, "/inputs is no list"),
        ({"inputs": {}}, "/inputs is no list"),
        ({"inputs": []}, "input logits is missing"),
        ({"inputs": JSON[:1]}, "input labels is missing"),
        ({"inputs": [*JSON, JSON[0]]}, "given twice"),
        ({"inputs": JSON * 500}, "more than there are inputs"),
        ({"inputs": [1]}, "/inputs/0 is no object"),
        ({"inputs": [{**JSON[0], "name": "logit"}, JSON[1]]}, "it takes logits, labels"),
        ({"inputs": [{**JSON[0], "name": "lo gits"}, JSON[1]]}, "a name matches"),
        ({"inputs": [{**JSON[0], "name": "../x"}, JSON[1]]}, "a name matches"),
        ({"inputs": [{**JSON[0], "name": ""}, JSON[1]]}, "a name matches"),
        ({"inputs": [{**JSON[0], "name": 3}, JSON[1]]}, "a name matches"),
        ({"inputs": [{**JSON[0], "datatype": "INT32"}, JSON[1]]}, "FP16, BF16, FP32, FP64"),
        ({"inputs": [{**JSON[0], "datatype": "BYTES"}, JSON[1]]}, "FP16, BF16, FP32, FP64"),
        ({"inputs": [{**JSON[0], "datatype": 4}, JSON[1]]}, "FP16, BF16, FP32, FP64"),
        ({"inputs": [{**JSON[0], "datatype": "BF16"}, JSON[1]]}, "BF16 has no JSON form"),
        ({"inputs": [{**JSON[0], "more": 1}, JSON[1]]}, "other fields"),
        ({"inputs": [{**JSON[0], "data": "x"}, JSON[1]]}, "is no list"),
        ({"inputs": [{**JSON[0], "data": None}, JSON[1]]}, "needs one of data"),
        ({"inputs": [{**JSON[0], "parameters": []}, JSON[1]]}, "is no object"),
        ({"inputs": [{**JSON[0], "parameters": {"a b": 1}}, JSON[1]]}, "a name matches"),
        ({"inputs": [{**JSON[0], "parameters": {"a": [1]}}, JSON[1]]}, "is no scalar"),
        ({"inputs": [{**JSON[0], "parameters": {"binary_data_size": 120}}, JSON[1]]}, "one only"),
        ({"inputs": JSON, "outputs": {}}, "/outputs is no list"),
        ({"inputs": JSON, "outputs": [1]}, "/outputs/0 is no object"),
        ({"inputs": JSON, "outputs": [{"name": "lass"}]}, "has no output lass"),
        ({"inputs": JSON, "outputs": [{"name": "lo ss"}]}, "a name matches"),
        ({"inputs": JSON, "outputs": [{}]}, "a name matches"),
        ({"inputs": JSON, "outputs": [{"name": "loss"}, {"name": "loss"}]}, "asked for twice"),
        ({"inputs": JSON, "outputs": [{"name": "loss"}] * 500}, "more than there are outputs"),
        ({"inputs": JSON, "outputs": [{"name": "loss", "x": 1}]}, "other fields"),
        (
            {"inputs": JSON, "outputs": [{"name": "loss", "parameters": {"binary_data": 1}}]},
            "neither true nor false",
        ),
        (
            {"inputs": JSON, "outputs": [{"name": "loss", "parameters": {"classification": 3}}]},
            "classification is not offered",
        ),
        ({"inputs": JSON, "parameters": {"binary_data_output": "yes"}}, "neither true nor false"),
        ({"inputs": JSON, "parameters": {"class_weights": [1, 2]}}, "lists come as inputs"),
        ({"inputs": JSON, "parameters": []}, "is no object"),
        ({"inputs": JSON, "id": 3}, "/id is no string"),
        ({"inputs": JSON, "id": "x" * 1000}, "/id is no string"),
        ({"inputs": JSON, "more": 1}, "and no others"),
    ],
)
def test_requests_that_are_none(client: httpx2.Client, request_: object, words: str) -> None:
    refused(infer(client, json.dumps(request_).encode()), words=words)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("logits", [[1.0] * 5] * 5, "is no list of 30 numbers"),
        ("logits", [1.0] * 29, "is no list of 30 numbers"),
        ("logits", [], "is no list of 30 numbers"),
        ("logits", [[1.0] * 5] * 5 + [[1.0] * 4], "ragged"),
        ("logits", [[1.0] * 5] * 5 + [1.0], "ragged"),
        ("logits", [*[1.0] * 29, [1.0]], "ragged"),
        ("logits", [*[1.0] * 28, [1.0, 1.0], []], "ragged"),
        ("logits", [1e39] * 30, "out of the range"),
        ("labels", [1.5] * 6, "not of its datatype"),
        ("labels", [0, 1, 2, 3, 4, 2**63], "not of its datatype"),
    ],
)
def test_numbers_that_do_not_fit(
    client: httpx2.Client, name: str, data: list[object], words: str
) -> None:
    inputs = [{**each, "data": data} if each["name"] == name else each for each in JSON]
    refused(infer(client, {"inputs": inputs}), words=words)


@pytest.mark.parametrize("number", ["1", True, None, {}])
def test_422_what_is_no_number(client: httpx2.Client, number: object) -> None:
    inputs = [{**JSON[0], "data": [*[0.5] * 29, number]}, JSON[1]]
    problem = refused(infer(client, {"inputs": inputs}), 422, "is no number")
    assert problem["errors"][0]["pointer"].startswith("/logits/29")


def test_whole_numbers_out_of_the_range_of_their_type(client: httpx2.Client) -> None:
    for datatype, number in (("INT8", 128), ("UINT8", 256), ("UINT64", -1), ("BOOL", 2)):
        labels = {**JSON[1], "datatype": datatype, "data": [0, 1, 2, 3, 4, number]}
        refused(infer(client, {"inputs": [JSON[0], labels]}))


def test_bytes_that_are_no_bools(client: httpx2.Client) -> None:
    hot = np.eye(5, dtype=np.bool_)[LABELS]
    blobs = LOGITS.tobytes() + b"\2" + hot.tobytes()[1:]
    refused(
        infer(client, {"inputs": [BINARY[0], behind("labels", hot)]}, blobs, model="categorical")
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"inputs": ' + b"[" * 100_000,
        b'{"inputs": 1, "inputs": 2}',
    ],
    ids=range(6),
)
def test_bytes_that_are_not_json(client: httpx2.Client, body: bytes) -> None:
    refused(infer(client, body))
    refused(infer(client, body + b" ", b""))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bad_compression(client: httpx2.Client, coding: str) -> None:
    body = json.dumps({"inputs": JSON}).encode()
    packed = COMPRESS[coding](body)
    for wrong in (body, packed[:-1], packed + b"x"):
        refused(infer(client, wrong, headers={"content-encoding": coding}))


def test_415_other_codings(client: httpx2.Client) -> None:
    refused(infer(client, {"inputs": JSON}, headers={"content-encoding": "br"}), 415)


def test_what_is_meaningless_is_422_and_points_into_the_request(client: httpx2.Client) -> None:
    def pointer(request: Mapping[str, object], model: str = "sparse") -> str:
        problem = refused(infer(client, request, model=model), 422)
        found: str = problem["errors"][0]["pointer"]
        return found

    wrong = [JSON[0], in_json("labels", LABELS + 5)]
    weights = in_json("sample_weights", -np.ones(6))
    lists = in_json("class_weights", np.ones(3))
    odd = in_json("class_weights", np.array([1.0, 1.0, 1.0, 1.0, -1.0]))
    assert pointer({"inputs": wrong}) == "/inputs/1"
    assert pointer({"inputs": [weights, *JSON]}) == "/inputs/0"
    assert pointer({"inputs": [*JSON, lists]}) == "/inputs/2"
    assert pointer({"inputs": [*JSON, odd]}) == "/inputs/2"
    gamma = {"inputs": JSON, "parameters": {"gamma": -1}}
    assert pointer(gamma, "focal") == "/parameters/gamma"
    assert pointer(gamma) == "/parameters/gamma"
    assert pointer({"inputs": JSON, "parameters": {"reduction": "max"}}) == "/parameters/reduction"
    assert pointer({"inputs": JSON, "parameters": {"class_axis": 7}}) == "/parameters/class_axis"
    positives = {"inputs": JSON, "outputs": [{"name": "loss"}, {"name": "per_class_positives"}]}
    assert pointer(positives, "focal") == "/outputs/1"
    assert pointer({"inputs": JSON}, "weighted") == "/parameters/class_weights"


def test_settings_as_inputs_have_limits(start: Start) -> None:
    client = start(document_entries=100).client
    many = in_json("class_weights", np.ones(101))
    refused(infer(client, {"inputs": [*JSON, many]}), 413)
    square = in_json("class_weights", np.ones((5, 1)))
    refused(infer(client, {"inputs": [*JSON, square]}), words="is a list of numbers")
    twice = {"inputs": [*JSON, in_json("alpha", np.ones(5))], "parameters": {"alpha": 1}}
    refused(infer(client, twice, model="focal"), words="given twice")


def test_413_above_a_limit(start: Start) -> None:
    client = start(rows=5).client
    refused(infer(client, REQUEST, BLOBS), 413)
    client = start(body_bytes=100).client
    refused(infer(client, REQUEST, BLOBS), 413)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/focl/infer", 404),
        ("GET", "/v2/models/focl", 404),
        ("GET", "/v2/models/focl/ready", 404),
        ("GET", "/v2/models/focal/versions/2", 400),
        ("POST", "/v2/models/focal/versions/x/infer", 400),
        ("GET", "/v2/nowhere", 404),
        ("POST", "/v2/repository/models/focal/load", 404),
        ("DELETE", "/v2", 405),
        ("GET", "/v2/models/focal/infer", 405),
        ("GET", "/v2/systemsharedmemory/status", 400),
    ],
)
def test_paths(client: httpx2.Client, method: str, path: str, status: int) -> None:
    refused(client.request(method, path), status)


def test_keys_hold_here_too(start: Start) -> None:
    client = start(api_keys="alpha:evaluate,beta:metrics", shared_memory="copied").client
    request = {"inputs": JSON}
    refused(infer(client, request), 401)
    refused(infer(client, request, headers={"authorization": "Bearer beta"}), 403)
    assert numbers(infer(client, request, headers={"authorization": "Bearer alpha"}))
    refused(client.get("/v2/systemsharedmemory/status"), 401)
    refused(client.post("/v2/systemsharedmemory/unregister"), 401)
    assert client.get("/v2").status_code == client.get("/v2/models/focal").status_code == 200


def test_503_while_draining(start: Start) -> None:
    server = start()
    server.server.engine.drain()
    for path in ("/v2/health/ready", "/v2/models/focal/ready"):
        refused(server.client.get(path), 503)
    refused(infer(server.client, {"inputs": JSON}), 503)
    index = server.client.post("/v2/repository/index").json()
    assert {each["state"] for each in index} == {"UNAVAILABLE"}
    assert len(index) == len(VARIANTS)
    assert server.client.get("/v2/health/live").status_code == 200


def test_an_answer_is_as_long_as_it_says(client: httpx2.Client) -> None:
    weird = entry("labels", LABELS, data=LABELS.tolist())
    request = {"id": 'quo"te\\ä', "inputs": [JSON[0], weird]}
    response = infer(client, request, headers={"accept-encoding": "identity"})
    assert response.json()["id"] == 'quo"te\\ä'
    assert int(response.headers["content-length"]) == len(response.content)
