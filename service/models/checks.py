"""A model's file before anything is done with it: parsed, held to limits, and found to be closed.

What refers to other files, or to operators that are not ONNX's own, is refused.
"""

import math
from collections.abc import Iterator
from typing import Final

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto

from service.errors import BrokenModel

DOMAINS: Final = ("", "ai.onnx", "ai.onnx.ml")
_BITS: Final[dict[int, int]] = {
    TensorProto.FLOAT: 32,
    TensorProto.DOUBLE: 64,
    TensorProto.FLOAT16: 16,
    TensorProto.BFLOAT16: 16,
    TensorProto.INT64: 64,
    TensorProto.INT32: 32,
    TensorProto.INT16: 16,
    TensorProto.INT8: 8,
    TensorProto.UINT64: 64,
    TensorProto.UINT32: 32,
    TensorProto.UINT16: 16,
    TensorProto.UINT8: 8,
    TensorProto.BOOL: 8,
}


def checked(data: bytes) -> ModelProto:
    """Return the model that a file holds.

    Raises:
        BrokenModel: it holds none, or one that is not taken.
    """
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # the parser's own class, of either implementation
        raise BrokenModel("the file is no ONNX model: it cannot be parsed") from error
    if not model.HasField("graph") or not model.opset_import:
        raise BrokenModel("the file is no ONNX model: it has no graph, or names no operator set")
    _check_domains(model)
    for graph in _graphs(model):
        for tensor in _tensors(graph):
            _check_tensor(tensor)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise BrokenModel(f"the model is not valid: {_first_line(error)}") from None
    return model


def opset_of(model: ModelProto) -> int:
    """Return the version of the standard operators."""
    versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    return max(versions, default=1)


def _check_domains(model: ModelProto) -> None:
    named = [each.domain for each in (*model.opset_import, *model.functions)]
    named += [node.domain for graph in _graphs(model) for node in graph.node]
    others = sorted({domain for domain in named if domain not in DOMAINS})
    if others:
        raise BrokenModel(
            f"operators of the domain '{others[0][:64]}' are not taken, only ONNX's own "
            "(ai.onnx, ai.onnx.ml): export the model without custom operators or functions"
        )
    if model.functions:
        raise BrokenModel("the model defines functions: export it with functions inlined")
    known = onnx.defs.onnx_opset_version()
    if opset_of(model) > known:
        raise BrokenModel(
            f"opset {opset_of(model)} is newer than what is known here: export with opset {known} "
            "or older"
        )
    if model.ir_version > onnx.IR_VERSION:
        raise BrokenModel(
            f"the file's IR version {model.ir_version} is newer than what is known here, "
            f"{onnx.IR_VERSION}: export with an older version of ONNX"
        )


def _graphs(model: ModelProto) -> Iterator[GraphProto]:
    """Yield the graph and all those within it."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += _graphs_of(attribute)


def _graphs_of(attribute: AttributeProto) -> Iterator[GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _check_tensor(tensor: TensorProto) -> None:
    name = tensor.name[:64]
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise BrokenModel(
            f"the tensor '{name}' lies in another file: save the model as one file, "
            "without external data"
        )
    if any(size < 0 for size in tensor.dims):
        raise BrokenModel(f"the tensor '{name}' has a negative size")
    bits = _BITS.get(tensor.data_type)
    # What is not packed is held to its shape by the checker.
    if bits is not None and tensor.HasField("raw_data"):
        needed = math.prod(tensor.dims) * bits // 8
        if needed != len(tensor.raw_data):
            raise BrokenModel(
                f"the tensor '{name}' needs {needed} bytes by its shape and has "
                f"{len(tensor.raw_data)}"
            )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:300]
