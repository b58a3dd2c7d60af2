"""One input of a request: declared in the JSON; its numbers there, behind it, or in shared memory.

What is declared is checked against the bytes that are there, then against the limits, and only then
is anything allocated.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from simdjson import Array, Object
from torch import Tensor

from service.errors import Malformed, NotOffered
from service.wire.document import KEYS, Plain, Value, entries_of
from service.wire.kserve.datatypes import BINARY_ONLY, DTYPES
from service.wire.kserve.framing import Blobs
from service.wire.kserve.model import Input, Model
from service.wire.kserve.parameters import NAME, scalars, size
from service.wire.kserve.regions import Regions
from service.wire.lists import TensorReader, check_declared
from service.wire.payload import Body, all_there, is_aligned, view

FIELDS: Final = ("name", "shape", "datatype", "parameters", "data")
PLAIN: Final = ("name", "shape", "datatype", "parameters")
REGION: Final = "shared_memory_region"
REGION_OFFSET: Final = "shared_memory_offset"
REGION_SIZE: Final = "shared_memory_byte_size"
BINARY_SIZE: Final = "binary_data_size"
BINARY: Final = "binary_data"
INT64: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Received:
    """A body that may still be arriving; ``arrived`` waits for the first bytes of it."""

    body: Body
    arrived: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Declared:
    """An input as it is declared.

    Attributes:
        name: which one it is.
        place: its place in the list of inputs.
        dtype: of its numbers.
        shape: of it.
        parameters: of it.
        data: its numbers, where the JSON holds them.
    """

    name: str
    place: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    parameters: Mapping[str, object]
    data: Array | None

    @property
    def size(self) -> int:
        """Bytes of its numbers; Python's integers do not overflow."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Bytes:
    """Memory that holds, or will hold, the numbers of an input.

    Attributes:
        memory: in which they are.
        begin: where in it.
        await_bytes: returns once the first so many of them are there.
        in_body: whether that is the body of the request.
    """

    memory: Body
    begin: int
    await_bytes: Callable[[int], None]
    in_body: bool = False

    def aligned(self, declared: Declared) -> bool:
        """Tell whether the numbers can be read where they are."""
        return is_aligned(self.memory, self.begin, declared.dtype)

    def tensor(self, declared: Declared) -> Tensor:
        """Return the tensor, in place where it is aligned; all of it must be there.

        Raises:
            Malformed: a bool that is neither 0 nor 1.
        """
        return view(self.memory, self.begin, declared.shape, declared.dtype)


def declare(value: Value, place: int, model: Model, plain: Plain) -> Declared:
    """Read what the JSON says of an input.

    Raises:
        Malformed: no input.
        NotOffered: one that the model does not take, or not of this type.
    """
    pointer = f"/inputs/{place}"
    if not isinstance(value, Object):
        raise Malformed(f"{pointer} is no object")
    entries = entries_of(value, pointer)
    if not entries.keys() <= set(FIELDS):
        raise Malformed(f"{pointer} has other fields than {', '.join(FIELDS)}")
    data = entries.get("data")
    if not isinstance(data, Array | None):
        raise Malformed(f"{pointer}/data is no list")
    for name in PLAIN:
        plain.value(entries.get(name), f"{pointer}/{name}", 2)
    taken = _taken(entries.get("name"), pointer, model)
    parameters = scalars(entries.get("parameters"), f"{pointer}/parameters")
    return Declared(
        taken.name,
        place,
        _dtype(entries.get("datatype"), taken),
        _shape(entries.get("shape"), pointer),
        parameters,
        data,
    )


def located(
    declared: Declared,
    blobs: Blobs | None,
    received: Received,
    regions: Regions,
    within_limits: Callable[[Declared], None],
) -> Bytes | None:
    """Return where the bytes of an input are; ``None`` where the JSON holds its numbers.

    Args:
        declared: the input.
        blobs: what follows the JSON; ``None`` where nothing does.
        received: the body.
        regions: of shared memory.
        within_limits: checks the input, once its shape is that of its bytes.

    Raises:
        Malformed: they are nowhere, in two places, or not as many as the shape takes.
        NotOffered: shared memory that is not there.
    """
    name = declared.name
    in_region = REGION in declared.parameters
    behind = size(declared.parameters, BINARY_SIZE)
    if (declared.data is not None) + in_region + (behind is not None) != 1:
        raise Malformed(f"{name} needs one of data, {BINARY_SIZE} and {REGION}, and one only")
    if in_region:
        return _in_region(declared, regions, within_limits)
    if declared.data is not None:
        check_declared(name, declared.data, declared.shape)
        if declared.dtype == DTYPES[BINARY_ONLY]:
            raise Malformed(f"{name}: {BINARY_ONLY} has no JSON form, send it as binary data")
        within_limits(declared)
        return None
    if blobs is None or behind is None:
        raise Malformed(f"{name} is binary data, and no header says where the JSON ends")
    _check_size(declared, behind)
    begin = blobs.take(name, behind)
    within_limits(declared)
    return Bytes(received.body, begin, lambda end: received.arrived(begin + end), in_body=True)


def read_json(declared: Declared, reader: TensorReader) -> Tensor:
    """Return the tensor of numbers in the JSON.

    Raises:
        Malformed: not as many as the shape has, or not of its type.
        InvalidDocument: something that is no number.
    """
    if declared.data is None:
        raise AssertionError("asked of data in the JSON only")
    return reader.read_declared(declared.name, declared.data, declared.shape, declared.dtype)


def _in_region(
    declared: Declared, regions: Regions, within_limits: Callable[[Declared], None]
) -> Bytes:
    parameters = declared.parameters
    region = parameters[REGION]
    wanted = size(parameters, REGION_SIZE)
    if not isinstance(region, str) or wanted is None:
        raise Malformed(f"{declared.name}: give {REGION}, a name, and {REGION_SIZE}")
    _check_size(declared, wanted)
    found = regions.find(region)
    offset = size(parameters, REGION_OFFSET) or 0
    found.check(offset, wanted)
    within_limits(declared)  # an object may be as large as it likes while nothing is in it
    if declared.name == "logits":
        memory, await_bytes = found.read(offset, wanted)
        return Bytes(memory, 0, await_bytes)
    # What is checked before it is used must not change in between.
    return Bytes(found.copy(offset, wanted), 0, all_there)


def _check_size(declared: Declared, stated: int) -> None:
    if stated != declared.size:
        raise Malformed(
            f"{declared.name}: shape and datatype take {declared.size} bytes, not {stated}"
        )


def _taken(name: Value, pointer: str, model: Model) -> Input:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Malformed(f"{pointer}/name: a name matches {NAME.pattern}")
    if name not in model.inputs:
        raise NotOffered(f"{model.name} takes no input {name}; it takes {', '.join(model.inputs)}")
    return model.inputs[name]


def _dtype(datatype: Value, taken: Input) -> torch.dtype:
    if not isinstance(datatype, str) or datatype not in taken.taken:
        raise NotOffered(f"{taken.name} is one of {', '.join(taken.taken)}")
    return DTYPES[datatype]


def _shape(shape: Value, pointer: str) -> tuple[int, ...]:
    if not isinstance(shape, Array) or len(shape) > KEYS:
        raise Malformed(f"{pointer}/shape is no list of a few sizes")
    sizes = [each for each in shape if type(each) is int and 0 <= each < INT64]
    if len(sizes) != len(shape):
        raise Malformed(f"{pointer}/shape: a size is a whole number, 0 or more")
    return tuple(sizes)
