"""Arithmetic that writes an ONNX graph instead of computing.

A :class:`Value` is a tensor that the graph will have. What is written with ``+``, ``exp()`` or
``where()`` becomes nodes; what was written before, with the same operands, is found again and not
written twice. Numbers of Python become constants of float64, in which all arithmetic is done.

Only standard operators of opset 17 are used. It has neither log1p nor expm1: both are made of log
and exp here, with what 1 + x loses put back.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

OPSET: Final = 17
FLOAT: Final = int(TensorProto.FLOAT)
DOUBLE: Final = int(TensorProto.DOUBLE)
INT64: Final = int(TensorProto.INT64)
BOOL: Final = int(TensorProto.BOOL)

_NUMPY: Final = {DOUBLE: "<f8", INT64: "<i8", BOOL: "?"}
_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor of a graph, by name. Numbers per row are (rows, 1), so that they broadcast."""

    graph: "Graph"
    name: str

    def __add__(self, other: "Operand") -> "Value":
        return self.apply("Add", other)

    def __radd__(self, other: float) -> "Value":
        return self.graph.number(other).apply("Add", self)

    def __sub__(self, other: "Operand") -> "Value":
        return self.apply("Sub", other)

    def __rsub__(self, other: float) -> "Value":
        return self.graph.number(other).apply("Sub", self)

    def __mul__(self, other: "Operand") -> "Value":
        return self.apply("Mul", other)

    def __rmul__(self, other: float) -> "Value":
        return self.graph.number(other).apply("Mul", self)

    def __truediv__(self, other: "Operand") -> "Value":
        return self.apply("Div", other)

    def __rtruediv__(self, other: float) -> "Value":
        return self.graph.number(other).apply("Div", self)

    def __pow__(self, exponent: float) -> "Value":
        return self.apply("Pow", exponent)

    def __neg__(self) -> "Value":
        return self.apply("Neg")

    def __lt__(self, other: "Operand") -> "Value":
        return self.apply("Less", other)

    def __le__(self, other: "Operand") -> "Value":
        return self.apply("LessOrEqual", other)

    def __gt__(self, other: "Operand") -> "Value":
        return self.apply("Greater", other)

    def __ge__(self, other: "Operand") -> "Value":
        return self.apply("GreaterOrEqual", other)

    def __and__(self, other: "Value") -> "Value":
        return self.apply("And", other)

    def __or__(self, other: "Value") -> "Value":
        return self.apply("Or", other)

    def __invert__(self) -> "Value":
        return self.apply("Not")

    def equals(self, other: "Operand") -> "Value":
        """Return where both are the same."""
        return self.apply("Equal", other)

    def exp(self) -> "Value":
        """Return e^x."""
        return self.apply("Exp")

    def log(self) -> "Value":
        """Return the natural logarithm."""
        return self.apply("Log")

    def abs(self) -> "Value":
        """Return the magnitude."""
        return self.apply("Abs")

    def log1p(self) -> "Value":
        """Return log(1 + x) for x > -1, to the last digits of a small x too."""
        grown = 1 + self
        # log(w) + (x - (w-1))/w: what rounding 1 + x to w took away comes back to first order.
        found = grown.log() + (self - (grown - 1)) / grown
        return where(grown.equals(math.inf), math.inf, found)

    def expm1(self) -> "Value":
        """Return e^x - 1 for x <= 0, to the last digits of a small x too."""
        power = self.exp()
        # x (e-1) / log e, e = fl(e^x): the error of e is in both, and leaves with the quotient.
        # Below -1 there is nothing to lose, and e may be 0.
        careful = where(power.equals(1.0), self, (power - 1) * self / power.log())
        return where(self < -1.0, power - 1, careful)

    def at_most(self, bound: float) -> "Value":
        """Return min(x, bound)."""
        return self.apply("Min", bound)

    def at_least(self, bound: float) -> "Value":
        """Return max(x, bound)."""
        return self.apply("Max", bound)

    def row_sum(self) -> "Value":
        """Return the sum over classes, (rows, 1)."""
        return self.apply("ReduceSum", self.graph.whole(1), keepdims=1)

    def row_max(self) -> "Value":
        """Return the largest over classes, (rows, 1)."""
        return self.apply("ReduceMax", axes=(1,), keepdims=1)

    def row_peak(self) -> "Value":
        """Return the class of the largest, the first of equals, int64, (rows, 1)."""
        return self.apply("ArgMax", axis=1, keepdims=1)

    def row_all(self) -> "Value":
        """Return whether a condition holds for all classes, (rows, 1)."""
        return (~self).cast(DOUBLE).row_sum().equals(0.0)

    def total(self) -> "Value":
        """Return the sum of all, a scalar."""
        return self.apply("ReduceSum", keepdims=0)

    def cast(self, to: int) -> "Value":
        """Return the same in another type."""
        return self.apply("Cast", to=to)

    def as_column(self) -> "Value":
        """Return (rows, 1) of (rows,)."""
        return self.apply("Unsqueeze", self.graph.whole(1))

    def as_vector(self) -> "Value":
        """Return (rows,) of (rows, 1)."""
        return self.apply("Squeeze", self.graph.whole(1))

    def at(self, places: "Value") -> "Value":
        """Return the entries of a vector at these places, of the places' shape."""
        return self.apply("Gather", places, axis=0)

    def apply(self, operator: str, *others: "Operand", **attributes: object) -> "Value":
        """Return what a standard operator makes of this value and others."""
        return self.graph.apply(operator, self, *others, **attributes)


Operand = Value | float


def where(condition: Value, yes: Operand, no: Operand) -> Value:
    """Return ``yes`` where the condition holds, ``no`` elsewhere. Neither is hurt by the other."""
    return condition.apply("Where", yes, no)


def times(weight: Value, value: Operand) -> Value:
    """Return weight * value, and 0 wherever the weight is 0, whatever the value."""
    return where(weight.equals(0.0), 0.0, weight * value)


@dataclass(slots=True)
class _Scope:
    """The nodes of a graph, or of a loop inside it, and which were written already."""

    nodes: list[NodeProto] = field(default_factory=list)
    known: dict[_Key, Value] = field(default_factory=dict)


class Graph:
    """A graph that is being written."""

    def __init__(self) -> None:
        self._scopes = [_Scope()]
        self._constants: dict[_Key, tuple[Value, TensorProto]] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._names = 0

    def input(self, name: str, kind: int, shape: Sequence[str | int], words: str) -> Value:
        """Declare an input."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape, words))
        return Value(self, name)

    def output(self, name: str, value: Value, shape: Sequence[str | int], words: str) -> None:
        """Declare an output; it is float64 where it has no shape, float32 otherwise."""
        kind = FLOAT if shape else DOUBLE
        given = value.cast(kind) if shape else value
        self._scopes[0].nodes.append(helper.make_node("Identity", [given.name], [name], name=name))
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape, words))

    def number(self, value: float) -> Value:
        """Return a constant of float64, a scalar."""
        return self._constant(np.float64(value), DOUBLE)

    def vector(self, values: Sequence[float]) -> Value:
        """Return constants of float64, (classes,)."""
        return self._constant(np.asarray(values, dtype=np.float64), DOUBLE)

    def whole(self, *values: int) -> Value:
        """Return constants of int64, (values,)."""
        return self._constant(np.asarray(values, dtype=np.int64), INT64)

    def whole_number(self, value: int) -> Value:
        """Return a constant of int64, a scalar."""
        return self._constant(np.int64(value), INT64)

    def never(self) -> Value:
        """Return a condition that never holds, a scalar."""
        return self._constant(np.bool_(False), BOOL)

    def range(self, count: int) -> Value:
        """Return 0, 1, ..., count - 1, int64. Written as an operator: a model stays small."""
        zero, one = self.whole_number(0), self.whole_number(1)
        return self.apply("Range", zero, self.whole_number(count), one)

    def apply(self, operator: str, *inputs: Operand, **attributes: object) -> Value:
        """Return what a standard operator makes of values."""
        values = [each if isinstance(each, Value) else self.number(each) for each in inputs]
        names = tuple(value.name for value in values)
        key = (operator, names, *sorted(attributes.items()))
        for scope in self._scopes:
            if key in scope.known:
                return scope.known[key]
        made = self._write(operator, names, attributes)
        self._scopes[-1].known[key] = made
        return made

    def loop(self, limit: int, start: Value, step: Callable[[Value], tuple[Value, Value]]) -> Value:
        """Return what becomes of (rows, 1) when a step is taken again and again.

        Args:
            limit: of steps.
            start: what the first step is given.
            step: returns what the next one is given, and whether there is to be one, a scalar.
        """
        count, again, given = (self._named("loop") for _ in range(3))
        self._scopes.append(_Scope())
        found, more = step(given)
        nodes = self._scopes.pop().nodes
        column = ("rows", 1)
        body = helper.make_graph(
            nodes,
            "step",
            [
                helper.make_tensor_value_info(count.name, INT64, ()),
                helper.make_tensor_value_info(again.name, BOOL, ()),
                helper.make_tensor_value_info(given.name, DOUBLE, column),
            ],
            [
                helper.make_tensor_value_info(more.name, BOOL, ()),
                helper.make_tensor_value_info(found.name, DOUBLE, column),
            ],
        )
        first = self._constant(np.bool_(True), BOOL)
        names = (self.whole_number(limit).name, first.name, start.name)
        return self._write("Loop", names, {"body": body})

    def proto(self, name: str, words: str) -> GraphProto:
        """Return the graph as it is written to files."""
        return helper.make_graph(
            self._scopes[0].nodes,
            name,
            self._inputs,
            self._outputs,
            [tensor for _, tensor in self._constants.values()],
            words,
        )

    def _write(self, operator: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> Value:
        made = self._named(operator)
        node = helper.make_node(operator, inputs, [made.name], name=made.name, **attributes)
        self._scopes[-1].nodes.append(node)
        return made

    def _constant(self, values: np.ndarray | np.generic, kind: int) -> Value:
        content = np.asarray(values).astype(_NUMPY[kind]).tobytes()
        key = (kind, values.shape, content)
        if key not in self._constants:
            made = self._named("constant")
            tensor = helper.make_tensor(made.name, kind, values.shape, content, raw=True)
            self._constants[key] = made, tensor
        return self._constants[key][0]

    def _named(self, operator: str) -> Value:
        self._names += 1
        return Value(self, f"{operator.lower()}_{self._names}")
