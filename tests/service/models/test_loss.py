"""Losses of what models make of features, against POST /loss of what NumPy and PyTorch make."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto
from safetensors.torch import save as as_safetensors

from tests.service.batches import ARROW, arrow, batch_of, cut, safetensors
from tests.service.harness import SAFETENSORS, Running
from tests.service.models.nets import (
    CLASSES,
    FEATURES,
    LABELS,
    LOGITS,
    PIXELS,
    B,
    Port,
    W,
    linear,
    net,
    node,
    save,
    scalar,
)
from xentcore import OUTPUTS, VARIANTS

OUT = [each for each in OUTPUTS if each != "row_statistics"]
FLOAT, HALF, DOUBLE = map(int, (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE))
NAMES = ["ant", "bee", "cow", "dog"]


def asked(
    serving: Running,
    name: str,
    features: NDArray[Any] = FEATURES,
    **request: Any,  # noqa: ANN401
) -> dict[str, Any]:
    document = {"features": features.tolist(), "labels": LABELS.tolist(), **request}
    response = serving.client.post(f"/models/{name}/loss/sparse", json=document)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def close(found: Any, expected: Any, relative: float = 1e-4) -> None:  # noqa: ANN401
    """Check that two answers are the same, but for rounding and what one says of its model."""
    if isinstance(expected, dict):
        for key in expected.keys() - {"diagnostics", "nulls"}:
            close(found[key], expected[key], relative)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            close(one, other, relative)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=relative, abs=1e-5)
    else:
        assert found == expected


def expected(
    serving: Running,
    logits: NDArray[Any] = LOGITS,
    **request: Any,  # noqa: ANN401
) -> dict[str, Any]:
    document = {"logits": logits.tolist(), "labels": LABELS.tolist(), **request}
    response = serving.client.post("/loss/sparse", json=document)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


SOFTMAX = node("Softmax", "z", "y")
ENDS: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "plain": ([node("Identity", "z", "y")], {}, "none"),
    "softmax": ([SOFTMAX], {}, "softmax"),
    "old softmax": ([SOFTMAX], {"opset": 11}, "softmax"),
    "named axis": ([node("Softmax", "z", "y", axis=1)], {}, "softmax"),
    "log-softmax": ([node("LogSoftmax", "z", "y")], {}, "log_softmax"),
    "behind identity": ([node("Softmax", "z", "p"), node("Identity", "p", "y")], {}, "softmax"),
    "behind reshape": (
        [node("Softmax", "z", "p"), node("Reshape", "p shape", "y")],
        {"constants": {"shape": np.array([-1, CLASSES])}},
        "softmax",
    ),
    "behind cast": (
        [node("Softmax", "z", "p"), node("Cast", "p", "y", to=DOUBLE)],
        {"outputs": [("y", DOUBLE, ["rows", CLASSES])]},
        "softmax",
    ),
    "log of clipped softmax": (
        [node("Softmax", "z", "p"), node("Clip", "p low", "c"), node("Log", "c", "y")],
        {"constants": {"low": scalar(1e-7)}},
        "softmax",
    ),
    "exp of log-softmax": (
        [node("LogSoftmax", "z", "l"), node("Exp", "l", "y")],
        {},
        "log_softmax",
    ),
    "sigmoid": ([node("Sigmoid", "z", "y")], {}, "sigmoid"),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_normalises_at_the_end_is_left_out(serving: Running, folder: Path, end: str) -> None:
    tail, more, recognised = ENDS[end]
    name = end.replace(" ", "-")
    save(folder, linear(*tail, **more), name)
    found = asked(serving, name, outputs=OUT)
    close(found, expected(serving, outputs=OUT))
    assert found["model"] == {"name": name, "version": "1"}
    codes = [each["code"] for each in found["diagnostics"]]
    page = serving.client.get(f"/models/{name}").json()["versions"][0]
    assert page["recognised"] == recognised
    if recognised == "none":
        assert not [code for code in codes if "left_out" in code]
    else:
        assert codes[0] == f"{recognised.replace('log_', '')}_left_out"
        assert "twice would be wrong" in found["diagnostics"][0]["message"]
        assert found["diagnostics"][0]["count"] == len(FEATURES)


def test_a_softmax_over_another_axis_than_the_classes_is_not_left_out_unseen(
    serving: Running, folder: Path
) -> None:
    pixels = node("Softmax", "z", "y", axis=0)
    save(folder, linear(pixels), "over-rows")
    document = {"features": FEATURES.tolist(), "labels": LABELS.tolist()}
    refused = serving.client.post("/models/over-rows/loss/sparse", json=document)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/class_axis"


def test_every_variant_answers_as_it_does_with_logits(serving: Running, folder: Path) -> None:
    save(folder, linear(SOFTMAX), "any")
    one_hot = np.eye(CLASSES)[LABELS].tolist()
    for slug in VARIANTS:
        for labels in (LABELS.tolist(), one_hot):
            ask = {"labels": labels, "settings": {}, "outputs": ["per_class", "gradient"]}
            logits = serving.client.post(f"/loss/{slug}", json={"logits": LOGITS.tolist(), **ask})
            features = {"features": FEATURES.tolist(), **ask}
            answer = serving.client.post(f"/models/any/loss/{slug}", json=features)
            assert answer.status_code == logits.status_code, answer.text
            if answer.status_code == 200:
                close(answer.json(), logits.json(), 1e-3)


VARIANTS_ASKED = [
    {"variant": "sparse"},
    {"variant": "focal", "name": "soft", "settings": {"gamma": 0.5}},
    {"variant": "temperature", "settings": {"temperature": 2.0}},
]


def test_variants_are_compared_as_they_are_with_logits(serving: Running, folder: Path) -> None:
    save(folder, linear(SOFTMAX), "compared")
    ask = {"labels": LABELS.tolist(), "variants": VARIANTS_ASKED, "outputs": ["per_class"]}
    logits = serving.client.post("/compare", json={"logits": LOGITS.tolist(), **ask}).json()
    for url in ("/models/compared/compare", "/models/compared/versions/1/compare"):
        response = serving.client.post(url, json={"features": FEATURES.tolist(), **ask})
        assert response.status_code == 200, response.text
        close(response.json(), logits, 1e-3)
        for each in response.json()["results"]:
            assert each["model"] == {"name": "compared", "version": "1"}
            assert each["diagnostics"][0]["code"] == "softmax_left_out"


def test_a_comparison_says_what_does_not_fit(serving: Running, folder: Path) -> None:
    save(folder, linear(), "compared-strictly")
    document = {"features": FEATURES.tolist(), "labels": LABELS.tolist()}

    def refused(status: int, path: str = "compared-strictly/compare", **more: Any) -> list[str]:  # noqa: ANN401
        answer = serving.client.post(f"/models/{path}", json={**document, **more})
        assert answer.status_code == status, answer.text
        return [each["pointer"] for each in answer.json()["errors"]]

    assert refused(422) == ["/variants"]
    assert refused(404, variants=[{"variant": "focl"}]) == ["/variants/0/variant"]
    gamma = [{"variant": "sparse"}, {"variant": "focal", "settings": {"gamma": -1}}]
    assert refused(422, variants=gamma) == ["/variants/1/settings/gamma"]
    assert refused(422, variants=VARIANTS_ASKED, settings={}) == ["/settings"]
    refused(404, "nobody/compare", variants=VARIANTS_ASKED)
    refused(404, "compared-strictly/versions/9/compare", variants=VARIANTS_ASKED)
    refused(404, "compared-strictly/compare?version=9", variants=VARIANTS_ASKED)


def test_settings_and_weights_go_the_same_way(serving: Running, folder: Path) -> None:
    save(folder, linear(), "weighted")
    weights = np.linspace(0.5, 2, len(LABELS))
    ask = {"sample_weights": weights.tolist(), "settings": {"class_weights": [1, 2, 3, 4]}}
    ask |= {"reduction": "sum", "outputs": ["per_class"], "class_names": NAMES}
    close(asked(serving, "weighted", **ask), expected(serving, **ask))


def mlp() -> tuple[ModelProto, torch.nn.Module]:
    torch.manual_seed(3)
    module = torch.nn.Sequential(
        torch.nn.Linear(PIXELS, 7), torch.nn.ReLU(), torch.nn.Linear(7, CLASSES)
    )
    weights = {name: each.detach().numpy() for name, each in module.named_parameters()}
    nodes = [
        node("Gemm", "x 0.weight 0.bias", "h", transB=1),
        node("Relu", "h", "r"),
        node("Gemm", "r 2.weight 2.bias", "z", transB=1),
        SOFTMAX,
    ]
    return net(nodes, weights), module


def test_a_network_of_two_layers_agrees_with_pytorch(serving: Running, folder: Path) -> None:
    model, module = mlp()
    save(folder, model, "mlp")
    theirs = torch.nn.functional.cross_entropy(
        module(torch.from_numpy(FEATURES)), torch.from_numpy(LABELS)
    )
    assert asked(serving, "mlp")["loss"] == pytest.approx(theirs.item(), rel=1e-5)


def test_a_convolution_on_images_agrees_with_pytorch(serving: Running, folder: Path) -> None:
    torch.manual_seed(4)
    images = torch.randn(9, 2, 6, 6)
    labels = torch.arange(9) % 3
    convolution = torch.nn.Conv2d(2, 3, 3, padding=1)
    weights = {name: each.detach().numpy() for name, each in convolution.named_parameters()}
    pooled = [
        node("Conv", "x weight bias", "c", pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", "c", "g"),
        node("Softmax", "g", "p", axis=1),
        node("Flatten", "p", "y"),
    ]
    inputs: list[Port] = [("x", FLOAT, ["rows", 2, 6, 6])]
    save(folder, net(pooled, weights, inputs=inputs, outputs=[("y", FLOAT, ["rows", 3])]), "images")
    logits = convolution(images).mean(dim=(2, 3))
    document = {"features": images.tolist(), "labels": labels.tolist()}
    answer = serving.client.post("/models/images/loss/sparse", json=document).json()
    theirs = torch.nn.functional.cross_entropy(logits, labels).item()
    assert answer["loss"] == pytest.approx(theirs, rel=1e-5)

    # Every pixel a row: (N, C, d1, d2), made in batches of 8 images.
    dense = net(
        [node("Conv", "x weight bias", "z", pads=[1, 1, 1, 1]), node("Softmax", "z", "y", axis=1)],
        weights,
        inputs=inputs,
        outputs=[("y", FLOAT, ["rows", 3, 6, 6])],
    )
    save(folder, dense, "segments")
    of_pixels = torch.randint(3, (9, 6, 6))
    document = {"features": images.tolist(), "labels": of_pixels.tolist()}
    answer = serving.client.post("/models/segments/loss/sparse", json=document).json()
    theirs = torch.nn.functional.cross_entropy(convolution(images), of_pixels).item()
    assert answer["loss"] == pytest.approx(theirs, rel=1e-5)
    assert answer["rows"]["total"] == 9 * 36


@pytest.mark.parametrize("kind", [HALF, DOUBLE])
def test_models_of_other_types(serving: Running, folder: Path, kind: int) -> None:
    dtype = {HALF: np.float16, DOUBLE: np.float64}[kind]
    taken: list[Port] = [("x", kind, ["rows", PIXELS])]
    given: list[Port] = [("y", kind, ["rows", CLASSES])]
    model = net(
        [node("Gemm", "x W B", "z"), SOFTMAX],
        {"W": W.astype(dtype), "B": B.astype(dtype)},
        inputs=taken,
        outputs=given,
    )
    name = f"typed-{kind}"
    save(folder, model, name)
    logits = (FEATURES.astype(dtype) @ W.astype(dtype) + B.astype(dtype)).astype(np.float64)
    relative = 1e-2 if kind == HALF else 1e-9
    found, theirs = asked(serving, name), expected(serving, logits)
    assert found["loss"] == pytest.approx(theirs["loss"], rel=relative)


def test_whole_numbers_and_fixed_batches(serving: Running, folder: Path) -> None:
    table = W[:4].copy()
    lookup = net(
        [node("Gather", "table x", "rows"), node("ReduceSum", "rows one", "y", keepdims=0)],
        {"table": table, "one": np.array([1])},
        inputs=[("x", TensorProto.INT64, [5, 3])],  # five rows at a time, no more and no fewer
    )
    save(folder, lookup, "tokens")
    tokens = np.random.default_rng(1).integers(4, size=(len(LABELS), 3))
    close(
        asked(serving, "tokens", tokens, outputs=["per_sample"]),
        expected(serving, table[tokens].sum(axis=1), outputs=["per_sample"]),
    )
    document = {"features": [[0.5, 1, 2]], "labels": [0]}
    refused = serving.client.post("/models/tokens/loss/sparse", json=document)
    assert refused.status_code == 422
    assert "takes int64, and a number does not fit" in refused.json()["detail"]


@pytest.mark.parametrize("kind", ["float32", "float64", "float16"])
def test_features_come_as_safetensors_and_base64(serving: Running, folder: Path, kind: str) -> None:
    save(folder, linear(), "carried")
    numbers = FEATURES.astype(kind)
    theirs = expected(serving, numbers.astype(np.float32) @ W + B, outputs=["gradient"])
    body = safetensors({"features": numbers, "labels": LABELS}, outputs=["gradient"])
    headers = {"content-type": SAFETENSORS}
    answer = serving.client.post("/models/carried/loss/sparse", content=body, headers=headers)
    close(answer.json(), theirs, 1e-3)
    assert answer.headers["server-timing"].count("model;dur=") == 1
    packed = {
        "dtype": kind,
        "shape": numbers.shape,
        "data": base64.b64encode(numbers.tobytes()).decode(),
    }
    document = {"features": packed, "labels": LABELS.tolist(), "outputs": ["gradient"]}
    answer = serving.client.post("/models/carried/loss/sparse", json=document)
    close(answer.json(), theirs, 1e-3)
    accept = {"accept": SAFETENSORS, "content-encoding": "identity"}
    raw = serving.client.post("/models/carried/loss/sparse", json=document, headers=accept)
    assert raw.headers["content-type"] == SAFETENSORS


def test_features_in_half_of_a_float32(serving: Running, folder: Path) -> None:
    save(folder, linear(), "brain")
    numbers = torch.from_numpy(FEATURES).bfloat16()
    theirs = expected(serving, numbers.float().numpy() @ W + B)
    named = {"features": numbers, "labels": torch.from_numpy(LABELS)}
    headers = {"content-type": SAFETENSORS}
    body = as_safetensors(named)
    answer = serving.client.post("/models/brain/loss/sparse", content=body, headers=headers)
    close(answer.json(), theirs)
    packed = {
        "dtype": "bfloat16",
        "shape": FEATURES.shape,
        "data": base64.b64encode(numbers.view(torch.uint16).numpy().tobytes()).decode(),
    }
    document = {"features": packed, "labels": LABELS.tolist()}
    close(serving.client.post("/models/brain/loss/sparse", json=document).json(), theirs)


@pytest.mark.parametrize("packed", [False, True])
def test_features_come_as_an_arrow_stream(serving: Running, folder: Path, packed: bool) -> None:
    save(folder, linear(), "streamed")
    weights = np.linspace(0.5, 2, len(LABELS))
    ids = [f"row {at}" for at in range(len(LABELS))]
    columns = {"features": FEATURES, "label": LABELS, "sample_weight": weights, "sample_id": ids}
    parts = list(cut(batch_of(columns), 7))
    headers = {"content-type": ARROW, **({"content-encoding": "gzip"} if packed else {})}

    def streamed(asks: str, **request: Any) -> dict[str, Any]:  # noqa: ANN401
        body = arrow(parts, **request)
        sent = gzip.compress(body) if packed else body
        answer = serving.client.post(f"/models/streamed/{asks}", content=sent, headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    same = {"sample_weights": weights.tolist(), "sample_ids": ids, "outputs": OUT, "k": 3}
    found = streamed("loss/sparse", outputs=OUT, k=3)
    close(found, expected(serving, **same))
    assert found["hardest"]["id"] == [f"row {row}" for row in found["hardest"]["row"]]
    (one,) = streamed("compare", variants=[{"variant": "sparse"}])["results"]
    assert one["loss"] == pytest.approx(found["loss"], rel=1e-12)


def test_of_a_stream_of_features_every_type_of_numbers_is_read(
    serving: Running, folder: Path
) -> None:
    save(folder, linear(), "typed")
    whole = np.rint(FEATURES)
    theirs = expected(serving, logits=whole @ W + B)
    for dtype in (np.float16, np.float64, np.int8, np.int64):
        body = arrow([batch_of({"features": whole.astype(dtype), "label": LABELS})])
        headers = {"content-type": ARROW}
        answer = serving.client.post("/models/typed/loss/sparse", content=body, headers=headers)
        close(answer.json(), theirs)


def test_what_is_no_stream_of_features_is_refused(serving: Running, folder: Path) -> None:
    save(folder, linear(), "refusing")
    good = {"features": FEATURES, "label": LABELS}

    def refused(body: bytes, status: int) -> str:
        headers = {"content-type": ARROW}
        answer = serving.client.post("/models/refusing/loss/sparse", content=body, headers=headers)
        assert answer.status_code == status, answer.text
        return str(answer.json()["detail"])

    def of(**columns: Any) -> bytes:  # noqa: ANN401
        return arrow([batch_of({name: each for name, each in columns.items() if each is not None})])

    whole = of(**good)
    assert "truncated" in refused(whole[:-8], 400)
    assert "follow the end" in refused(whole + b"more", 400)
    refused(b"", 400)
    refused(b"nonsense", 400)
    assert "known: features, label" in refused(of(**good, logits=LOGITS), 422)
    assert "column features is required" in refused(of(label=LABELS), 422)
    assert "column label is required" in refused(of(features=FEATURES), 422)
    words = [[str(each) for each in row] for row in FEATURES]
    assert "fixed-size list of numbers" in refused(of(features=words, label=LABELS), 422)
    narrow = refused(of(features=FEATURES[:, :2].copy(), label=LABELS), 422)
    assert "have shape [23, 2], the model's input 'x' takes [rows, 5]" in narrow
    none = of(features=FEATURES[:0], label=LABELS[:0])
    assert "so no numbers" in refused(none, 422)
    many = np.zeros((100_000, 5), np.float32), np.zeros(100_000, np.int64)
    refused(of(features=many[0], label=many[1]), 413)


def test_several_inputs_and_outputs_are_mapped_by_the_card(serving: Running, folder: Path) -> None:
    inputs = [
        ("x", FLOAT, ["rows", PIXELS]),
        ("temperature", FLOAT, []),
        ("training", TensorProto.BOOL, [1]),
    ]
    outputs = [("y", FLOAT, ["rows", CLASSES]), ("h", FLOAT, ["rows", CLASSES])]
    model = linear(
        node("Where", "training z z", "w"),
        node("Div", "w temperature", "y"),
        inputs=inputs,
        outputs=outputs,
    )
    save(folder, model, "several")
    document = {"features": FEATURES.tolist(), "labels": LABELS.tolist()}
    refused = serving.client.post("/models/several/loss/sparse", json=document)
    assert refused.status_code == 422
    assert refused.json()["type"] == "/problems/model-invalid"
    assert "name it in model.json (output)" in refused.json()["detail"]
    constants = {"temperature": 2.0, "training": False}
    card = {"input": "x", "constants": constants, "output": "y", "classes": NAMES}
    save(folder, model, "several", card={**card, "constants": {"temperature": 2.0}})
    refused = serving.client.post("/models/several/loss/sparse", json=document)
    assert "the model has 2 inputs, and features are one" in refused.json()["detail"]
    save(folder, model, "several", card=card)
    found = asked(serving, "several", outputs=["per_class"])
    close(found, expected(serving, LOGITS / 2, outputs=["per_class"], class_names=NAMES))


def test_the_logits_can_be_named(serving: Running, folder: Path) -> None:
    # A mean of two softmaxes cannot be undone.
    blended = linear(
        node("Softmax", "z", "p"),
        node("Softmax", "h", "q"),
        node("Mean", "p q", "y"),
    )
    save(folder, blended, "blended")
    document = {"features": FEATURES.tolist(), "labels": LABELS.tolist()}
    refused = serving.client.post("/models/blended/loss/sparse", json=document)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/input"
    assert "name the tensor in model.json (pre_softmax" in refused.json()["detail"]
    p, q = (torch.softmax(torch.from_numpy(each), 1) for each in (LOGITS, FEATURES @ W))
    stated = expected(serving, ((p + q) / 2).double().numpy(), input="probabilities")
    close(asked(serving, "blended", input="probabilities"), stated)
    save(folder, blended, "blended", card={"pre_softmax": "z"})
    close(asked(serving, "blended"), expected(serving))
    save(folder, blended, "blended", card={"pre_softmax": False})
    found = asked(serving, "blended")
    assert [each["code"] for each in found["diagnostics"]] == ["double_softmax"]
    # The same in the file itself.
    entry = blended.metadata_props.add()
    entry.key, entry.value = "xent", json.dumps({"pre_softmax": "z"})
    save(folder, blended, "within")
    close(asked(serving, "within"), expected(serving))


def test_a_softmax_written_out_is_seen_by_what_it_gives(serving: Running, folder: Path) -> None:
    written = linear(
        node("Exp", "z", "e"),
        node("ReduceSum", "e axis", "s"),
        node("Div", "e s", "y"),
        constants={"axis": np.array([1])},
    )
    save(folder, written, "written")
    document = {"features": FEATURES.tolist(), "labels": LABELS.tolist()}
    refused = serving.client.post("/models/written/loss/sparse", json=document)
    assert refused.json()["errors"][0]["pointer"] == "/input"
    save(folder, linear(SOFTMAX), "cut")
    document["input"] = "probabilities"
    refused = serving.client.post("/models/cut/loss/sparse", json=document)
    assert "leave it out" in refused.json()["detail"]


def test_what_does_not_fit_is_named(serving: Running, folder: Path) -> None:
    save(folder, linear(), "strict")
    ask = "/models/strict/loss/sparse"

    def refused(status: int, **request: Any) -> str:  # noqa: ANN401
        answer = serving.client.post(ask, json={"labels": [0, 1], **request})
        assert answer.status_code == status, answer.text
        return str(answer.json()["detail"])

    detail = refused(422, features=[[1.0, 2.0], [3.0, 4.0]])
    assert detail == "/features: have shape [2, 2], the model's input 'x' takes [rows, 5]"
    assert "is required" in refused(422)
    assert "unknown field" in refused(422, logits=[[1.0] * 4] * 2)
    empty = {"dtype": "float32", "shape": [0, 5], "data": ""}
    assert "so no numbers" in refused(422, features=empty)
    assert "does not fit" in refused(422, features=[[1e39] * 5] * 2)
    assert "labels have shape (2,), logits (3, 4)" in refused(422, features=[[1.0] * 5] * 3)
    refused(413, features=[[0.0] * 5] * 100_000)
    assert serving.client.post("/models/strict/loss/focl", json={}).status_code == 404
    answer = serving.client.post(ask, content=b"x", headers={"content-type": "text/plain"})
    assert answer.status_code == 415
