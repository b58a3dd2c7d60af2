"""KServe V2 as its official clients speak it; the numbers are those of POST /loss."""

import gc
import json
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx2
import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save
from tritonclient.http import InferenceServerClient, InferResult, aio
from tritonclient.utils import InferenceServerException

from service.schema.document import Document
from service.schema.kserve import inference_models
from service.schema.models import settings_models
from service.version import VERSION
from service.wire.buffer import Buffer
from service.wire.kserve.regions import Regions
from service.wire.kserve.request import decode
from service.wire.payload import Limits
from tests.service.conftest import Start
from tests.service.harness import SAFETENSORS, Running
from tests.service.inference import (
    JSON,
    LABELS,
    LENGTH,
    LOGITS,
    REALS,
    Array,
    behind,
    infer,
    numbers,
    sent,
    wanted,
)
from xentcore import OUTPUTS, VARIANTS, Settings, Spec, evaluate

BATCH = {"logits": LOGITS, "labels": LABELS}
NAMES = ["loss", "reduction_sum", "rows_total", "per_sample", "gradient", "per_class_loss_mean"]
CODINGS = [None, "gzip", "deflate"]


@pytest.fixture
def triton(shared: Running) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"127.0.0.1:{shared.port}") as client:
        yield client


@pytest.fixture
async def triton_aio(shared: Running) -> AsyncIterator[aio.InferenceServerClient]:
    async with aio.InferenceServerClient(f"127.0.0.1:{shared.port}") as client:
        yield client


def tensor(array: Array) -> torch.Tensor:
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def loss_of(
    client: httpx2.Client, tensors: Mapping[str, Any], slug: str = "sparse", **request: object
) -> dict[str, Any]:
    """Ask POST /loss the same."""
    document = {"outputs": ["per_sample", "gradient", "per_class"], **request}
    body = save(
        {name: tensor(array) for name, array in tensors.items()},
        {"request": json.dumps(document)},
    )
    response = client.post(f"/loss/{slug}", content=body, headers={"content-type": SAFETENSORS})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def check(found: InferResult, answer: Mapping[str, Any]) -> None:
    """Check that the outputs are the numbers of an answer document."""
    for name in NAMES:
        expected = answer.get(name)
        for part in ("reduction", "rows", "per_class"):
            if name.startswith(f"{part}_"):
                expected = answer[part][name.removeprefix(f"{part}_")]
        array = found.as_numpy(name)
        number = np.array(expected, dtype=np.float64).reshape(array.shape)  # null is NaN
        np.testing.assert_array_equal(array, number.astype(array.dtype))


@pytest.mark.parametrize("datatype", REALS)
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_logits_of_every_type(
    triton: InferenceServerClient, client: httpx2.Client, datatype: str, binary: bool
) -> None:
    tensors = {"logits": LOGITS.astype(REALS[datatype]), "labels": LABELS}
    if datatype == "BF16" and not binary:
        with pytest.raises(InferenceServerException, match="BF16"):
            sent(tensors, binary=False)
        return
    found = triton.infer(
        "sparse", sent(tensors, binary=binary), outputs=wanted(NAMES, binary=binary)
    )
    check(found, loss_of(client, tensors))
    assert found.get_output("gradient")["datatype"] == datatype


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize(
    "dtype",
    ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "f2", "f4", "f8", "bfloat16"],
    ids=str,
)
def test_labels_of_every_type(
    triton: InferenceServerClient, client: httpx2.Client, dtype: str, binary: bool
) -> None:
    kind = np.dtype(dtype)
    if kind == ml_dtypes.bfloat16 and not binary:
        return
    one_hot = kind == np.bool_
    labels = np.eye(5)[LABELS].astype(kind) if one_hot else LABELS.astype(kind)
    tensors = {"logits": LOGITS, "labels": labels}
    slug = "categorical" if one_hot else "sparse"
    found = triton.infer(slug, sent(tensors, binary=binary), outputs=wanted(NAMES))
    check(found, loss_of(client, tensors, slug))


@pytest.mark.parametrize("received", CODINGS)
@pytest.mark.parametrize("asked", CODINGS)
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_compression_either_way(
    triton: InferenceServerClient,
    client: httpx2.Client,
    asked: str | None,
    received: str | None,
    binary: bool,
) -> None:
    found = triton.infer(
        "sparse",
        sent(BATCH, binary=binary),
        outputs=wanted(NAMES, binary=binary),
        request_compression_algorithm=asked,
        response_compression_algorithm=received,
    )
    check(found, loss_of(client, BATCH))


@pytest.mark.anyio
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
async def test_the_asynchronous_client(
    triton_aio: aio.InferenceServerClient,
    client: httpx2.Client,
    coding: str | None,
    binary: bool,
) -> None:
    assert await triton_aio.is_server_live()
    assert await triton_aio.is_server_ready()
    assert await triton_aio.is_model_ready("sparse", "1")
    found = await triton_aio.infer(
        "sparse",
        sent(BATCH, binary=binary),
        outputs=wanted(NAMES, binary=binary),
        request_id="mine",
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    check(found, loss_of(client, BATCH))
    assert found.get_response()["id"] == "mine"
    with pytest.raises(InferenceServerException, match="unknown variant 'focl'; did you mean"):
        await triton_aio.infer("focl", sent(BATCH))


def test_parameters_are_settings_and_options(
    triton: InferenceServerClient, client: httpx2.Client
) -> None:
    parameters = {"gamma": 1, "alpha": 0.5, "reduction": "sum", "nonfinite": "reject"}
    found = triton.infer(
        "focal",
        sent(BATCH),
        outputs=wanted(NAMES),
        parameters={**parameters, "ignore_index": 2, "content_type": "np"},
        sequence_id=3,
        sequence_start=True,
        priority=2,
        timeout=10,
    )
    answer = loss_of(
        client,
        BATCH,
        "focal",
        settings={"gamma": 1, "alpha": 0.5},
        reduction="sum",
        nonfinite="reject",
        ignore_index=2,
    )
    check(found, answer)
    assert found.as_numpy("rows_total") == 6


def test_settings_that_are_lists_come_as_inputs(
    triton: InferenceServerClient, client: httpx2.Client
) -> None:
    weights = np.arange(1, 6, dtype=np.float32)
    samples = np.linspace(0, 1, 6)
    tensors = {**BATCH, "sample_weights": samples, "class_weights": weights}
    for binary in (True, False):
        found = triton.infer("sparse", sent(tensors, binary=binary), outputs=wanted(NAMES))
        check(found, loss_of(client, tensors))
    counts = np.array([5, 4, 3, 2, 1])
    found = triton.infer("logit-adjusted", sent({**BATCH, "class_counts": counts}))
    answer = loss_of(client, BATCH, "logit-adjusted", settings={"class_counts": counts.tolist()})
    assert found.as_numpy("loss") == answer["loss"]


def test_an_answer_is_binary_where_it_is_asked_to_be(client: httpx2.Client) -> None:
    plain = infer(client, {"inputs": JSON})
    assert plain.headers["content-type"] == "application/json"
    assert LENGTH not in plain.headers
    whole = infer(client, {"inputs": JSON, "parameters": {"binary_data_output": True}})
    length = int(whole.headers[LENGTH])
    assert whole.headers["content-type"] == "application/octet-stream"
    assert np.frombuffer(whole.content[length:])[0] == numbers(plain)["loss"][0]
    outputs = [
        {"name": "loss", "parameters": {"binary_data": False}},
        {"name": "row_status"},
        {"name": "gradient", "parameters": {"binary_data": True}},
    ]
    mixed = infer(
        client,
        {"inputs": JSON, "outputs": outputs, "parameters": {"binary_data_output": True}},
    )
    head = json.loads(mixed.content[: int(mixed.headers[LENGTH])])
    sizes = [each.get("parameters") for each in head["outputs"]]
    assert sizes == [None, {"binary_data_size": 6}, {"binary_data_size": LOGITS.nbytes}]
    assert len(mixed.content) == int(mixed.headers[LENGTH]) + 6 + LOGITS.nbytes


def test_nothing_is_an_answer_too(triton: InferenceServerClient) -> None:
    nothing = {"logits": LOGITS[:0], "labels": LABELS[:0]}
    for binary in (True, False):
        inputs = sent(nothing, binary=binary)
        found = triton.infer("sparse", inputs, outputs=wanted([*NAMES, "per_class_support"]))
        assert np.isnan(found.as_numpy("loss")).all()
        assert found.get_response()["parameters"]["undefined"] == "no_rows"
        assert found.get_output("gradient")["parameters"] == {"binary_data_size": 0}
        assert found.as_numpy("gradient").shape == (0, 5)
        assert found.as_numpy("per_class_support").dtype == np.int64


def test_what_is_not_finite_is_null_in_json(triton: InferenceServerClient) -> None:
    logits = LOGITS.copy()
    logits[1, 1] = -np.inf
    tensors = {"logits": logits, "labels": LABELS}
    for binary in (True, False):
        found = triton.infer("sparse", sent(tensors), outputs=wanted(NAMES, binary=binary))
        losses = found.as_numpy("per_sample")
        assert np.isposinf(losses[1]) if binary else np.isnan(losses[1])


def test_half_precision_in_json(client: httpx2.Client) -> None:
    outputs = [{"name": "gradient"}]
    request = {"inputs": JSON, "outputs": outputs}
    half = infer(client, {**request, "parameters": {"gradient_dtype": "float16"}})
    full = infer(client, request)
    expected = np.array(numbers(full)["gradient"]).astype(np.float16)
    np.testing.assert_array_equal(np.array(numbers(half)["gradient"], np.float16), expected)
    refused = infer(client, {**request, "parameters": {"gradient_dtype": "bfloat16"}})
    assert refused.status_code == 400
    assert "as binary data" in refused.json()["error"]


def test_lists_are_flat_or_nested(client: httpx2.Client) -> None:
    flat = [{**each, "data": np.ravel(each["data"]).tolist()} for each in JSON]
    assert numbers(infer(client, {"inputs": flat})) == numbers(infer(client, {"inputs": JSON}))
    fields = {"model_name": "sparse", "model_version": "1", "id": None, "outputs": None}
    assert numbers(infer(client, {"inputs": flat, **fields, "parameters": None}))
    hot = [JSON[0], {"name": "labels", "datatype": "BOOL", "shape": [6, 5]}]
    for labels in (np.eye(5)[LABELS].astype(bool).tolist(), np.eye(5)[LABELS].tolist()):
        hot[1]["data"] = labels
        found = numbers(infer(client, {"inputs": hot}, model="categorical"))
        assert found == numbers(infer(client, {"inputs": JSON}))


def test_the_content_type_plays_no_part(client: httpx2.Client) -> None:
    expected = numbers(infer(client, {"inputs": JSON}))
    for kind in ("application/octet-stream", "application/json", "text/plain", SAFETENSORS):
        found = infer(client, {"inputs": JSON}, headers={"content-type": kind})
        assert numbers(found) == expected


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("gzip;q=0.2, Deflate;q=0.5", "deflate"),
        ("br", None),
        ("br, zstd, identity", None),
        ("gzip;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=x", None),
        ("", None),
        ("*", None),
    ],
)
def test_answers_are_gzip_deflate_or_plain(
    client: httpx2.Client, accepted: str, coding: str | None
) -> None:
    found = infer(client, {"inputs": JSON}, headers={"accept-encoding": accepted})
    assert found.headers.get("content-encoding") == coding
    assert numbers(found)


def test_the_service_and_its_models_are_described(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    extensions = ["binary_tensor_data", "model_configuration", "parameters", "statistics"]
    metadata = triton.get_server_metadata()
    assert metadata == {"name": "xent", "version": VERSION, "extensions": extensions}
    index = triton.get_model_repository_index()
    assert [each["name"] for each in index] == list(VARIANTS)
    assert all(each["state"] == "READY" for each in index)
    for slug in VARIANTS:
        assert triton.is_model_ready(slug)
        assert triton.is_model_ready(slug, "1")
        assert triton.get_model_metadata(slug, "1") == triton.get_model_metadata(slug)
        config = triton.get_model_config(slug)
        assert [each["name"] for each in config["output"]] == [
            each["name"] for each in triton.get_model_metadata(slug)["outputs"]
        ]
    assert not triton.is_model_ready("focl")
    assert not triton.is_model_ready("focal", "2")
    config = triton.get_model_config("focal", "1")
    assert config["parameters"]["gamma"] == {"string_value": "2.0"}
    assert config["parameters"]["reduction"] == {"string_value": '"mean"'}
    with pytest.raises(InferenceServerException, match="no such version"):
        triton.get_model_metadata("focal", "2")
    with pytest.raises(InferenceServerException, match="no such version"):
        triton.infer("focal", sent(BATCH), model_version="2")
    with pytest.raises(InferenceServerException, match="Not Found"):
        triton.load_model("focal")


def test_statistics_count(start: Start) -> None:
    server = start()
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        client.infer("focal", sent(BATCH))
        with pytest.raises(InferenceServerException):
            client.infer("focal", sent(BATCH), parameters={"gamma": -1})
        (found,) = client.get_inference_statistics("focal")["model_stats"]
        assert found["inference_count"] == found["execution_count"] == 1
        assert found["last_inference"] > 0
        parts = found["inference_stats"]
        assert parts["success"]["count"] == parts["fail"]["count"] == 1
        laps = ("queue", "compute_input", "compute_infer", "compute_output")
        assert 0 < sum(parts[lap]["ns"] for lap in laps) <= parts["success"]["ns"]
        everything = client.get_inference_statistics()["model_stats"]
        assert [each["name"] for each in everything] == list(VARIANTS)
        assert everything[0]["inference_stats"]["success"]["count"] == 0
    metrics = server.client.get("/metrics").text
    assert 'route="/v2/models/{model}/infer",status="200"} 1.0' in metrics
    assert 'xent_rows_total{outcome="evaluated",variant="focal"} 6.0' in metrics


@pytest.mark.parametrize("slug", sorted(VARIANTS))
def test_every_output_is_declared_and_given(triton: InferenceServerClient, slug: str) -> None:
    variant = VARIANTS[slug]
    example = {
        "logits": np.array(variant.example["logits"], np.float32),
        "labels": np.array(variant.example["labels"]),
    }
    lists: dict[str, Any] = {}
    scalars: dict[str, Any] = {}
    settings: Any = variant.example["settings"]
    for name, value in settings.items():
        (lists if isinstance(value, list) else scalars)[name] = value
    inputs = {**example, **{name: np.array(value) for name, value in lists.items()}}
    (result,) = evaluate(
        torch.from_numpy(example["logits"]),
        torch.from_numpy(example["labels"]),
        [Spec(slug, _settings(slug))],
        outputs=[each for each in OUTPUTS if each != "row_statistics"],
    )
    declared = {each["name"]: each for each in triton.get_model_metadata(slug)["outputs"]}
    of_sigmoid = ("per_class_" + name for name in result.per_class or ())
    assert set(of_sigmoid) <= set(declared)
    # A variant that serves both families has the outputs of one at a time.
    other = "positive", "negative", "row_statistics"
    names = [
        name
        for name in declared
        if len(variant.families) == 1 or not any(part in name for part in other)
    ]
    found = triton.infer(slug, sent(inputs), outputs=wanted(names), parameters=scalars)
    for name in names:
        assert found.get_output(name)["datatype"] == declared[name]["datatype"]
        assert len(found.get_output(name)["shape"]) == len(declared[name]["shape"])
    assert found.as_numpy("loss") == result.loss


def _settings(slug: str) -> Settings:
    settings: Any = VARIANTS[slug].example["settings"]
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    found: Settings = VARIANTS[slug].settings_type(**values)
    return found


def test_no_setting_has_the_name_of_an_option() -> None:
    for model in inference_models(VARIANTS, settings_models(VARIANTS)).values():
        assert not set(model.settings) & (set(Document.model_fields) | {"logits", "labels"})


def test_large_binary_data_is_read_in_place_whatever_the_header(start: Start) -> None:
    """Past a megabyte, straight from the socket; the logits last, while they arrive, or first."""
    server = start(body_bytes=1 << 24)
    logits = np.random.default_rng(1).normal(size=(3000, 200)).astype(np.float32)
    labels = np.arange(3000, dtype=np.int64) % 200
    tensors = {"labels": labels, "logits": logits}
    expected = loss_of(server.client, tensors)
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        for padding in range(8):
            for order in (tensors, dict(reversed(tensors.items()))):
                found = client.infer(
                    "sparse", sent(order), outputs=wanted(NAMES), request_id="x" * (padding + 1)
                )
                for name in ("loss", "reduction_sum"):
                    value = expected["loss"] if name == "loss" else expected["reduction"]["sum"]
                    np.testing.assert_allclose(found.as_numpy(name), value, rtol=1e-12)
                np.testing.assert_array_equal(
                    found.as_numpy("gradient"), np.array(expected["gradient"], np.float32)
                )


@pytest.mark.parametrize("length", range(8))
def test_binary_data_is_not_copied(length: int) -> None:
    (model,) = (
        each
        for each in inference_models(VARIANTS, settings_models(VARIANTS)).values()
        if each.name == "sparse"
    )
    head = json.dumps({"inputs": [behind("logits", LOGITS), behind("labels", LABELS)]}).encode()
    head += b" " * length
    whole = head + LOGITS.tobytes() + LABELS.tobytes()
    buffer = Buffer(limit=len(whole), expected=len(whole), aligned=len(head))
    buffer.append(whole)
    limits = Limits(rows=100, classes=100, elements=100, document_entries=100)
    body = buffer.body()
    payload = decode(body, len(head), model, limits, Regions("off")).payload
    for found, begin in ((payload.logits, 0), (payload.labels, LOGITS.nbytes)):
        assert found is not None
        assert found.data_ptr() == body.ctypes.data + len(head) + begin
    del found
    # Nothing that is decoded holds itself: a body is gone as soon as nobody wants it.
    is_there = weakref.ref(body)
    gc.disable()
    try:
        del payload, body
        assert is_there() is None
    finally:
        gc.enable()
