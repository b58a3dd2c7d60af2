"""Tensors in JSON: nested lists, straight into contiguous memory, and base64.

No Python object is made per number. simdjson's ``as_buffer`` flattens ragged lists without a word,
so lengths and nesting are checked here.
"""

import binascii
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, cast

import numpy as np
import torch
from simdjson import Array, Object
from torch import Tensor

from service.errors import Fault, InvalidDocument, Malformed, invalid
from service.wire.document import Value, entries_of
from service.wire.payload import TORCH_DTYPES, Body, Limits, view

Kind = Literal["i", "u", "d"]
DTYPES: Final[Mapping[Kind, type[np.generic]]] = {
    "i": np.int64,
    "u": np.uint64,
    "d": np.float64,
}
_BRACKET: Final = ord("[")
_BACKSLASH: Final = ord("\\")
_SLICE: Final = 1 << 20


class TensorReader:
    """Reads tensors out of one document and checks that nothing was flattened silently."""

    def __init__(self, limits: Limits, class_axis: object) -> None:
        self._limits = limits
        self._class_axis = class_axis
        self._nested: dict[str, tuple[Array, list[int]]] = {}

    def read(self, name: str, value: Value) -> Tensor:
        """Return one tensor.

        Raises:
            Malformed: ragged lists, or base64 that does not hold the declared shape.
            TooLarge: above a limit.
            InvalidDocument: neither lists of numbers nor a base64 tensor.
        """
        if isinstance(value, Array):
            return self._from_lists(name, value)
        if isinstance(value, Object):
            return self._from_base64(name, value)
        raise invalid(f"/{name}", "must be nested lists of numbers, or {dtype, shape, data}")

    def read_declared(
        self, name: str, array: Array, shape: Sequence[int], dtype: torch.dtype
    ) -> Tensor:
        """Return a tensor whose shape, which :func:`check_declared` has passed, and type are known.

        Raises:
            Malformed: ragged lists, or numbers out of range.
            InvalidDocument: something that is no number.
        """
        found = _shape(array)
        count = math.prod(shape)
        _check_lengths(name, array, found, ())
        self._nested[name] = (array, found)
        if not count:
            return torch.empty(tuple(shape), dtype=dtype)
        numbers = _numbers_as(name, array, dtype)
        if numbers.size != count:
            self._refuse_nesting_in(name)
        return torch.from_numpy(numbers).view(tuple(shape))

    def _from_lists(self, name: str, array: Array) -> Tensor:
        shape = _shape(array)
        self._limits.check(name, shape, self._class_axis)
        _check_lengths(name, array, shape, ())
        self._nested[name] = (array, shape)
        if not math.prod(shape):
            return torch.empty(shape, dtype=torch.float64 if name == "logits" else torch.int64)
        numbers = _numbers(name, array)
        if numbers.size != math.prod(shape):
            self._refuse_nesting_in(name)
        return torch.from_numpy(numbers).view(shape)

    def _from_base64(self, name: str, value: Object) -> Tensor:
        entries = entries_of(value, f"/{name}", known=("dtype", "shape", "data"))
        if set(entries) != {"dtype", "shape", "data"}:
            raise invalid(f"/{name}", "a base64 tensor has exactly dtype, shape and data")
        dtype = TORCH_DTYPES.get(str(entries["dtype"]))
        if dtype is None:
            raise invalid(f"/{name}/dtype", f"must be one of {', '.join(TORCH_DTYPES)}")
        declared, data = entries["shape"], entries["data"]
        if not isinstance(declared, Array) or len(declared) > self._limits.elements:
            raise invalid(f"/{name}/shape", "must be a list of sizes")
        sizes = list(declared)
        shape = [size for size in sizes if type(size) is int and size >= 0]
        if len(shape) != len(sizes):
            raise Malformed(f"/{name}/shape: a size is a whole number, 0 or more")
        self._nested[name] = (declared, [len(declared)])
        self._limits.check(name, shape, self._class_axis)
        if not isinstance(data, str):
            raise invalid(f"/{name}/data", "must be a base64 string")
        return _tensor(name, data, shape, dtype)

    def refuse_hidden_nesting(self, body: Body, *, known_arrays: int, brackets: int) -> None:
        """Find lists where numbers should be, in rows whose flattened length fits by chance.

        Every list opens with one bracket. Where the body holds no more brackets than the lists and
        strings that were seen, no list is hidden among the numbers, and no row need be looked at.

        Raises:
            Malformed: naming the first such place.
        """
        seen = known_arrays + sum(
            sum(math.prod(shape[:level]) for level in range(len(shape)))
            for _, shape in self._nested.values()
        )
        written = _count(body, _BRACKET)
        if written == seen or (written == seen + brackets and not _count(body, _BACKSLASH)):
            return
        for name in self._nested:
            self._refuse_nesting_in(name)

    def _refuse_nesting_in(self, name: str) -> None:
        array, shape = self._nested[name]
        for position, row in _rows(array, len(shape) - 1):
            for index, value in enumerate(row):
                if isinstance(value, Array):
                    raise _ragged(name, (*position, index), "a list", "numbers")


def check_declared(name: str, array: Array, shape: Sequence[int]) -> None:
    """Check that lists are of a shape, or one list of as many entries, by their first ones.

    Raises:
        Malformed: they are not.
    """
    found = _shape(array)
    count = math.prod(shape)
    # A list of nothing has no shape to speak of.
    if found != [count] and found != list(shape) and not (count == 0 == math.prod(found)):
        raise Malformed(f"{name}: the data is no list of {count} numbers, nor of its shape")


def _count(body: Body, byte: int) -> int:
    # In slices: comparing the whole body at once would make a second body of booleans.
    return sum(
        int(np.count_nonzero(body[start : start + _SLICE] == byte))
        for start in range(0, len(body), _SLICE)
    )


def _shape(array: Array) -> list[int]:
    shape = []
    level: Value = array
    while isinstance(level, Array):
        shape.append(len(level))
        level = level[0] if len(level) else None
    return shape


def _check_lengths(name: str, array: Array, shape: list[int], position: tuple[int, ...]) -> None:
    if len(shape) == 1:
        return
    for index, row in enumerate(array):
        where = (*position, index)
        if not isinstance(row, Array):
            if isinstance(row, int | float) and not isinstance(row, bool):
                raise _ragged(name, where, "a number", f"lists of {shape[1]}")
            raise _no_number(name, where)
        if len(row) != shape[1]:
            raise _ragged(name, where, f"a list of {len(row)}", f"lists of {shape[1]}")
        if len(shape) > 2:  # noqa: PLR2004  (a call per row costs more than all that it checks)
            _check_lengths(name, row, shape[1:], where)


def _numbers(name: str, array: Array) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    kinds: list[Literal["i", "d"]] = ["i", "d"] if name == "labels" else ["d"]
    for kind in kinds:
        try:
            return np.frombuffer(array.as_buffer(of_type=kind), dtype=DTYPES[kind])
        except (TypeError, ValueError):  # no number, or none of this type
            continue
    return _booleans(name, array)


def _numbers_as(
    name: str, array: Array, dtype: torch.dtype
) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    """Return numbers in a type that can hold them all."""
    if dtype == torch.bool:
        found = _numbers("labels", array)
    else:
        kind: Kind = "d" if dtype.is_floating_point else "i" if dtype.is_signed else "u"
        try:
            found = np.frombuffer(array.as_buffer(of_type=kind), dtype=DTYPES[kind])
        except (TypeError, ValueError):  # no number, or none of this type
            _refuse_others(name, array)
            raise Malformed(f"{name}: a number is not of its datatype") from None
    with np.errstate(over="ignore"):
        numbers = found.astype(str(dtype).removeprefix("torch."))
    # JSON holds no infinities: what is one now was too large. Whole numbers came out as others.
    fits = np.isfinite(numbers).all() if dtype.is_floating_point else np.array_equal(found, numbers)
    if not fits:
        raise Malformed(f"{name}: a number is out of the range of its datatype")
    return numbers


def _refuse_others(name: str, array: Array) -> None:
    """Refuse what is no number, with its place."""
    for position, row in _rows(array, len(_shape(array)) - 1):
        for index, value in enumerate(row):
            if isinstance(value, bool | str | Object | None):
                raise _no_number(name, (*position, index))
            if isinstance(value, Array):
                raise _ragged(name, (*position, index), "a list", "numbers")


def _booleans(name: str, array: Array) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    """Return labels given as booleans; refuse whatever else was no number."""
    values: list[bool] = []
    numbers = False
    for position, row in _rows(array, len(_shape(array)) - 1):
        for index, value in enumerate(row):
            if isinstance(value, bool) and name == "labels" and not numbers:
                values.append(value)
            elif isinstance(value, bool | str | Object | None):
                raise _no_number(name, (*position, index))
            elif isinstance(value, Array):
                raise _ragged(name, (*position, index), "a list", "numbers")
            elif values:
                raise invalid(f"/{name}", "mixes true and false with numbers")
            else:
                numbers = True
    return np.array(values, dtype=np.bool_)


def _rows(
    array: Array, depth: int, position: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Yield the innermost lists and their positions."""
    if not depth:
        yield position, array
        return
    for index, row in enumerate(array):  # lists all, as their lengths were checked
        yield from _rows(cast("Array", row), depth - 1, (*position, index))


def _ragged(name: str, position: tuple[int, ...], found: str, expected: str) -> Malformed:
    where = "".join(f"[{index}]" for index in position)
    message = f"{name} is ragged: {name}{where} is {found} among {expected}"
    return Malformed(message, faults=[Fault(_pointer(name, position), message)])


def _no_number(name: str, position: tuple[int, ...]) -> InvalidDocument:
    hint = (
        "; JSON has no NaN and no infinity: send such logits as a base64 tensor or as safetensors"
        if name == "logits"
        else ""
    )
    return invalid(_pointer(name, position), f"is no number{hint}")


def _pointer(name: str, position: tuple[int, ...]) -> str:
    return "/".join(["", name, *map(str, position)])


def _tensor(name: str, data: str, shape: list[int], dtype: torch.dtype) -> Tensor:
    size = math.prod(shape) * dtype.itemsize
    if len(data) != 4 * math.ceil(size / 3):
        raise Malformed(f"/{name}/data: {len(data)} characters cannot be base64 of {size} bytes")
    try:
        raw = binascii.a2b_base64(data, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"/{name}/data is not base64: {error}") from None
    if len(raw) != size:
        raise Malformed(f"/{name}/data: shape and dtype need {size} bytes, there are {len(raw)}")
    return view(Body(np.frombuffer(bytearray(raw), dtype=np.uint8)), 0, shape, dtype)
