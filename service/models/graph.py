"""What normalises a model's logits at its end, found and left out.

Losses apply their own softmax or sigmoid. A model that has applied one already would be normalised
twice, and its losses be wrong without any sign of it. So its graph is edited: on the way from the
output back to the normaliser every operator has one input, and those that change numbers become
``Identity``. What only changes shape or type stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from service.errors import BrokenModel
from service.models.checks import opset_of
from service.models.description import Recognised

NORMALISERS: Final[dict[str, Recognised]] = {
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Sigmoid": "sigmoid",
}
SHAPES: Final = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
PASSED: Final = ("Identity", "Cast", "Dropout", "Transpose", *SHAPES)
# What may stand between a normaliser and the output and is undone with it: log(clip(softmax)).
UNDONE: Final = {
    "Softmax": ([], ["Clip"], ["Log"], ["Clip", "Log"]),
    "Sigmoid": ([], ["Clip"], ["Log"], ["Clip", "Log"]),
    "LogSoftmax": ([], ["Exp"]),
}
# Behind these a normaliser is still the reason why the output is in [0, 1].
BLENDED: Final = ("Add", "Sum", "Mean", "Mul", "Div", "Max", "Min", "Sub", "Concat", "Where", "Pow")
BLENDED_DEPTH: Final = 8
CLASSIFIERS: Final = (
    "LinearClassifier",
    "SVMClassifier",
    "TreeEnsembleClassifier",
    "Normalizer",
    "ZipMap",
)
PER_AXIS_OPSET: Final = 13  # before, softmax was over all axes from the one that it names
OLD_AXIS: Final = 1
MATRIX: Final = 2


@dataclass(frozen=True, slots=True)
class Cut:
    """How the logits are had.

    Attributes:
        output: the tensor that they are.
        recognised: what was left out.
        axis: that the normaliser is over, where the graph tells.
        note: a sentence about it.
    """

    output: str
    recognised: Recognised
    axis: int | None = None
    note: str = ""


def cut(model: ModelProto, output: str, stated: str | bool | None) -> Cut:
    """Edit ``model`` so that one of its outputs is the logits.

    Args:
        model: changed in place.
        output: of the model.
        stated: the tensor that is the logits; false where the output is.

    Raises:
        BrokenModel: what is stated is not there.
    """
    if stated is False:
        return Cut(output, "none", note=f"model.json states that '{output}' is the logits")
    if isinstance(stated, str):
        return _stated(model.graph, stated)
    made_by = {name: node for node in model.graph.node for name in node.output if name}
    chain = _chain(made_by, output)
    last = chain[-1] if chain else None
    if last is None or last.op_type not in NORMALISERS:
        return _uncut(made_by, output)
    undone = [node for node in chain[:-1] if node.op_type not in PASSED]
    if [node.op_type for node in reversed(undone)] not in UNDONE[last.op_type]:
        return _uncut(made_by, output)
    rank, width = _shape(model, last.input[0])
    softmax = last.op_type != "Sigmoid"
    axis = _axis(last, opset_of(model), rank, width) if softmax else None
    if softmax and axis == -1:
        return _uncut(made_by, output)
    for node in chain[:-1]:
        axis = _followed(axis, node)
    logits, recognised = last.input[0], NORMALISERS[last.op_type]
    names = " and ".join(node.op_type for node in (last, *reversed(undone)))
    for node in (last, *undone):
        _pass_on(node)
    note = (
        f"the model ends in {names}: the logits before that ('{logits[:64]}') are evaluated, for "
        "a loss applies its own, and twice would be wrong"
    )
    return Cut(output, recognised, axis, note)


def _stated(graph: GraphProto, name: str) -> Cut:
    if name not in {each.name for each in graph.output}:
        if all(name not in node.output for node in graph.node):
            raise BrokenModel(f"model.json: pre_softmax: no node gives a tensor '{name[:64]}'")
        graph.output.append(onnx.ValueInfoProto(name=name))
    return Cut(name, "stated", note=f"model.json states that '{name[:64]}' is the logits")


def _chain(made_by: dict[str, NodeProto], output: str) -> list[NodeProto]:
    """Return the nodes from an output back to the first that is neither passed nor undone."""
    chain: list[NodeProto] = []
    name = output
    while (node := made_by.get(name)) is not None and node not in chain:
        if node.output[0] != name or node.domain not in ("", "ai.onnx"):
            break
        chain.append(node)
        if node.op_type not in (*PASSED, "Clip", "Log", "Exp"):
            break
        name = node.input[0]
    return chain


def _pass_on(node: NodeProto) -> None:
    """Make a node return its first input."""
    kept = node.input[0]
    node.op_type = "Identity"
    del node.attribute[:]
    del node.input[1:]
    node.input[0] = kept


def _shape(model: ModelProto, name: str) -> tuple[int | None, list[int]]:
    """Return the rank of a tensor and its sizes, 0 for one that is free; ``None`` if unknown."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return None, []
    for each in (*graph.value_info, *graph.output, *graph.input):
        if each.name == name and each.type.tensor_type.HasField("shape"):
            sizes = [dim.dim_value for dim in each.type.tensor_type.shape.dim]
            return len(sizes), sizes
    return None, []


def _axis(node: NodeProto, opset: int, rank: int | None, sizes: Sequence[int]) -> int | None:
    """Return the axis that a softmax is over: ``None`` if it cannot be told, -1 if over several."""
    given = {each.name: each.i for each in node.attribute}
    axis = given.get("axis", -1 if opset >= PER_AXIS_OPSET else OLD_AXIS)
    if rank is None:
        return axis if axis > 0 else None
    axis %= rank
    several = opset < PER_AXIS_OPSET and any(size != 1 for size in sizes[axis + 1 :])
    return -1 if several else axis


def _followed(axis: int | None, node: NodeProto) -> int | None:
    """Return which axis of a node's output an axis of its input is."""
    if axis is None:
        return None
    if node.op_type == "Transpose":
        order = [list(each.ints) for each in node.attribute if each.name == "perm"]
        return order[0].index(axis) if order and axis in order[0] else None
    if node.op_type in SHAPES:
        return axis if axis == OLD_AXIS and node.op_type == "Flatten" else None
    return axis


def _uncut(made_by: dict[str, NodeProto], output: str) -> Cut:
    """Return an output as it is, saying so where it is made of probabilities."""
    waiting, seen = [(output, 0)], set()
    while waiting:
        name, depth = waiting.pop()
        node = made_by.get(name)
        if node is None or name in seen or depth > BLENDED_DEPTH:
            continue
        seen.add(name)
        if node.op_type in NORMALISERS or _is_normalised(node):
            return Cut(output, "probabilities", note=blended(node.op_type))
        if node.op_type in (*PASSED, *BLENDED, "Clip", "Log", "Exp"):
            waiting += [(each, depth + 1) for each in node.input]
    return Cut(output, "none")


def blended(what: str) -> str:
    """Return what to do about an output that is made of probabilities."""
    return (
        f"the model's output is made of the probabilities of {what}, and no one tensor before it "
        "is known to be the logits: export the model without it, or name the tensor in model.json "
        "(pre_softmax; false if the output is), or state the request's input to be probabilities"
    )


def _is_normalised(node: NodeProto) -> bool:
    if node.op_type not in CLASSIFIERS:
        return False
    stated = {each.name: each.s for each in node.attribute}
    return (
        node.op_type == "ZipMap"
        or stated.get("norm") == b"L1"
        or stated.get("post_transform") in (b"SOFTMAX", b"LOGISTIC", b"SOFTMAX_ZERO")
    )
