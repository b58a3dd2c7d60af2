"""What is recognised at the end of a graph, and what is only said to be there."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from service.models.graph import cut
from tests.service.models.nets import CLASSES, PIXELS, Port, linear, net, node, raw

IMAGE: list[Port] = [("x", TensorProto.FLOAT, ["rows", 6, 6, 3])]


def images(*nodes: str, **attributes: object) -> ModelProto:
    return net(
        [node("Softmax", "x", "p", **attributes), node("Transpose", "p", "y", perm=[0, 3, 1, 2])],
        {},
        inputs=IMAGE,
        outputs=[("y", TensorProto.FLOAT, ["rows", 3, 6, 6])],
        opset=int(nodes[0]),
    )


def classifier(transform: str) -> ModelProto:
    scores = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "y"],
        domain="ai.onnx.ml",
        coefficients=[0.5] * (PIXELS * CLASSES),
        intercepts=[0.0] * CLASSES,
        classlabels_ints=list(range(CLASSES)),
        post_transform=transform,
    )
    outputs: list[Port] = [
        ("label", TensorProto.INT64, ["rows"]),
        ("y", TensorProto.FLOAT, ["rows", CLASSES]),
    ]
    return net([scores], {}, outputs=outputs, more=[("ai.onnx.ml", 1)])


@pytest.mark.parametrize(
    ("model", "recognised", "axis"),
    [
        (images("17", axis=-1), "softmax", 1),
        (images("17", axis=2), "softmax", 3),
        (images("11", axis=1), "probabilities", None),  # then one softmax over a whole image
        (linear(node("Sigmoid", "z", "s"), node("Log", "s", "y")), "sigmoid", None),
        (linear(node("Softmax", "z", "s"), node("Exp", "s", "y")), "probabilities", None),
        (linear(node("Relu", "z", "y")), "none", None),
        (classifier("SOFTMAX"), "probabilities", None),
        (classifier("NONE"), "none", None),
    ],
)
def test_what_is_at_the_end(model: ModelProto, recognised: str, axis: int | None) -> None:
    before = raw(model)
    found = cut(model, "y", None)
    assert (found.recognised, found.axis) == (recognised, axis)
    assert (raw(model) != before) == (recognised in ("softmax", "sigmoid"))
    kinds = [each.op_type for each in model.graph.node]
    assert recognised in ("none", "probabilities") or "Softmax" not in kinds
    assert bool(found.note) == (recognised != "none")


def test_what_stays_of_the_graph_still_feeds_other_outputs() -> None:
    model = linear(node("Softmax", "z", "y"), node("ArgMax", "y", "top", axis=1))
    assert cut(model, "y", None).recognised == "softmax"
    top = next(each for each in model.graph.node if each.op_type == "ArgMax")
    assert list(top.input) == ["y"]
    assert np.array_equal([each.name for each in model.graph.output], ["y"])
