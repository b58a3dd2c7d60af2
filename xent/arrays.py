"""Arrays of every library as tensors, and back into the library that they came from.

No library is imported: whoever passes an array of PyTorch or JAX has imported it.
"""

import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from xent.columns import column_array
from xent.errors import InvalidBatch
from xent.tensors import BFLOAT16, Array, Tensor

GiveBack = Callable[[Tensor], Any]
"""Makes an array of the caller's library, on the caller's device."""

TABLES: Final = frozenset({"pandas", "polars", "pyarrow"})


def library_of(value: object) -> str:
    """Return the library that a value's class comes from, or one of its bases: ``torch`` say."""
    known = {"torch", "jax", "jaxlib", *TABLES}
    origins = [base.__module__.partition(".")[0] for base in type(value).__mro__]
    return next((origin for origin in origins if origin in known), origins[0])


def tensor_of(value: object, name: str) -> Tensor:
    """Return what a caller passed as a tensor.

    Args:
        value: an array of NumPy, PyTorch or JAX, a column or frame of pandas, polars or Arrow,
            nested lists, or whatever speaks DLPack or NumPy's array protocols.
        name: what an error calls it.

    Raises:
        InvalidBatch: it holds no numbers, or lists of different lengths.
    """
    if isinstance(value, Tensor):
        return value
    if library_of(value) == "torch":
        return _from_torch(value, name)
    return Tensor.of(_array(value, name), name)


def logits_of(value: object, name: str = "logits") -> Tensor:
    """Return logits as a tensor; whole numbers in lists are reals, as in JSON."""
    tensor = tensor_of(value, name)
    if isinstance(value, list | tuple) and tensor.values.dtype.kind in "iu":
        return Tensor.of(tensor.values.astype(np.float64), name)
    return tensor


def give_back(value: object) -> GiveBack:
    """Return what makes an array like ``value`` of a tensor.

    PyTorch and JAX get their own; everybody else gets NumPy.
    """
    library = library_of(value)
    if library == "torch":
        device = value.device  # type: ignore[attr-defined]
        return lambda tensor: to_torch(tensor).to(device)
    if library in {"jax", "jaxlib"}:
        return _to_jax
    if isinstance(value, np.ndarray) and value.dtype.name == "bfloat16":
        dtype = value.dtype
        return lambda tensor: (
            tensor.values.view(dtype) if tensor.dtype == BFLOAT16 else tensor.numpy()
        )
    return Tensor.numpy


def plain(value: object) -> object:
    """Return a setting or option as JSON has it: arrays of any library as lists."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if library_of(value) in TABLES and hasattr(value, "to_pylist"):
        return value.to_pylist()
    return value.tolist() if hasattr(value, "tolist") else list(value)  # type: ignore[call-overload]


def _array(value: object, name: str) -> Array:
    try:
        if library_of(value) in TABLES:
            return column_array(value, name)
        has_numpy = any(hasattr(value, each) for each in ("__array__", "__array_interface__"))
        if hasattr(value, "__dlpack__") and not has_numpy:
            return np.from_dlpack(value)
        return np.asarray(value)
    except InvalidBatch:
        raise
    except (ValueError, TypeError, BufferError, RuntimeError) as error:
        raise InvalidBatch(f"{name} cannot be read as an array: {error}") from error


def _from_torch(value: Any, name: str) -> Tensor:  # noqa: ANN401  (a tensor of a library not imported)
    torch = sys.modules["torch"]
    try:
        # DLPack has no gradients; the bits of bfloat16 travel as integers, which NumPy has.
        host = value.detach().cpu().contiguous()
        if host.dtype == torch.bfloat16:
            return Tensor(BFLOAT16, np.from_dlpack(host.view(torch.uint16)))
        return Tensor.of(np.from_dlpack(host), name)
    except (BufferError, RuntimeError, TypeError, NotImplementedError) as error:
        raise InvalidBatch(f"{name} cannot be read as a tensor: {error}") from error


def to_torch(tensor: Tensor) -> Any:  # noqa: ANN401  (a tensor of a library not imported)
    """Return a tensor of PyTorch, which somebody must have imported; in place where it can be."""
    torch = sys.modules["torch"]
    # DLPack's older form has no read-only memory, which torch could not keep from being written.
    values = tensor.values if tensor.values.flags.writeable else tensor.values.copy()
    result = torch.from_dlpack(values)
    return result.view(torch.bfloat16) if tensor.dtype == BFLOAT16 else result


def _to_jax(tensor: Tensor) -> Any:  # noqa: ANN401  (an array of a library not imported)
    numpy = sys.modules["jax.numpy"]
    values = tensor.values
    return numpy.asarray(values.view(numpy.bfloat16.dtype) if tensor.dtype == BFLOAT16 else values)
