"""A compiled pass as a function of tensors, called without Python's lock.

torch's own binding holds the lock while a kernel computes: a server's event loop would wait for
every block. The C interface of the library, called through ctypes, gives it away. That interface
(``torch/csrc/inductor/aoti_runtime/interface.h``) is the one torch keeps stable.
"""

import ctypes
import os
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

# Handles to tensors are torch's own affair: the code that it generates uses these two.
_handles_of: Final = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors  # noqa: SLF001
_tensors_of: Final = torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs  # noqa: SLF001

_HANDLES: Final = ctypes.POINTER(ctypes.c_void_p)

_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.c_void_p
_pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]
_capsule_of = ctypes.pythonapi.PyCapsule_New
_capsule_of.restype = ctypes.py_object
_capsule_of.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class Library:
    """A shared library that AOTInductor made. Safe from any number of threads.

    Args:
        path: of the library. It is executed: only what this package compiled belongs here.

    Raises:
        OSError: no library that can be loaded.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        create = library.AOTInductorModelContainerCreateWithDevice
        create.argtypes = [_HANDLES, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_char_p]
        self._container = ctypes.c_void_p()
        # As many at once as there are processors; a further caller waits for its turn.
        runners = os.cpu_count() or 1
        if create(ctypes.byref(self._container), runners, b"cpu", None):  # pragma: no cover
            raise OSError(f"{path} cannot be loaded")
        count = ctypes.c_size_t()
        outputs = library.AOTInductorModelContainerGetNumOutputs
        outputs.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)]
        outputs(self._container, ctypes.byref(count))
        self._outputs = ctypes.c_void_p * count.value
        self._run = library.AOTInductorModelContainerRun
        self._run.argtypes = [
            ctypes.c_void_p,
            _HANDLES,
            ctypes.c_size_t,
            _HANDLES,
            ctypes.c_size_t,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        self._path = path

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return what the pass returns: a tensor, or a tuple of several.

        Args:
            inputs: contiguous CPU tensors, of the dtypes and shapes that it was compiled for.

        Raises:
            MemoryError: there is none for the outputs.
        """
        handles = _handles_of(list(inputs))
        pointers = (ctypes.c_void_p * len(inputs))(*[_pointer_of(h, None) for h in handles])
        found = self._outputs()
        # The library takes the inputs' handles over, whatever becomes of the call.
        if self._run(self._container, pointers, len(inputs), found, len(found), None, None):
            # Of inputs that fit, allocating the outputs is all that can fail.
            raise MemoryError(f"{self._path.stem}: no memory for its outputs")
        # A pass that only writes to what it was given returns nothing: a null pointer.
        tensors = _tensors_of([_capsule_of(each, None, None) for each in found if each])
        return tensors[0] if len(tensors) == 1 else tuple(tensors)
