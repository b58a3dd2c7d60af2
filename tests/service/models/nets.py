"""Real ONNX models, small, and what NumPy makes of the same weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSET = 17
PIXELS, CLASSES = 5, 4
_RNG = np.random.default_rng(11)
W: NDArray[np.float32] = _RNG.normal(size=(PIXELS, CLASSES)).astype(np.float32)
B: NDArray[np.float32] = _RNG.normal(size=CLASSES).astype(np.float32)
FEATURES: NDArray[np.float32] = (_RNG.normal(size=(23, PIXELS)) * 2).astype(np.float32)
LABELS: NDArray[np.int64] = _RNG.integers(CLASSES, size=23)
LOGITS: NDArray[np.float32] = FEATURES @ W + B

Constants = dict[str, NDArray[Any]]
Port = tuple[str, int, Sequence[int | str] | None]


def net(
    nodes: Sequence[NodeProto],
    constants: Constants,
    *,
    inputs: Sequence[Port] = (("x", TensorProto.FLOAT, ["rows", PIXELS]),),
    outputs: Sequence[Port] = (("y", TensorProto.FLOAT, ["rows", CLASSES]),),
    opset: int = OPSET,
    more: Sequence[tuple[str, int]] = (),
) -> ModelProto:
    """Return a model."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(*each) for each in more)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def node(kind: str, inputs: str, output: str, **attributes: Any) -> NodeProto:  # noqa: ANN401
    """Return a node whose inputs are named in one text."""
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


def linear(*tail: NodeProto, **more: Any) -> ModelProto:  # noqa: ANN401
    """Return x @ W + B, called z, and what follows; the output is y."""
    last = tail or (node("Identity", "z", "y"),)
    constants = {"W": W, "B": B, **more.pop("constants", {})}
    head = [node("MatMul", "x W", "h"), node("Add", "h B", "z")]
    return net([*head, *last], constants, **more)


def save(
    folder: Path,
    model: ModelProto | bytes,
    name: str = "net",
    version: str = "1",
    card: dict[str, Any] | bytes | None = None,
) -> Path:
    """Write a version of a model; return its folder."""
    place = folder / name / version
    place.mkdir(parents=True, exist_ok=True)
    data = model if isinstance(model, bytes) else model.SerializeToString()
    (place / "model.onnx").write_bytes(data)
    if card is not None:
        text = card if isinstance(card, bytes) else json.dumps(card).encode()
        (place / "model.json").write_bytes(text)
    return place


def raw(model: ModelProto) -> bytes:
    """Return the bytes of a model's file."""
    data: bytes = model.SerializeToString()
    return data


def scalar(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


def endless() -> ModelProto:
    """Return a model that never comes to an end."""
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("Identity", "a", "b")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, None),
        ],
    )
    return linear(
        # Only for features above 100: a trial does not send any.
        node("ReduceMax", "x", "top", keepdims=0),
        node("Greater", "top hundred", "large"),
        node("Where", "large many one", "times"),
        node("Loop", "times yes z", "y", body=body),
        constants={
            "hundred": scalar(100),
            "many": np.array(2**62),
            "one": np.array(1),
            "yes": np.array(True),
        },
    )
