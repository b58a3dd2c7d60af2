"""Passes to shared libraries: torch.export, then AOTInductor."""

import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from xentcore.kernels.catalogue import Kernel

# Threads as torch.set_num_threads says at run time, not as many as the compiling machine had.
_INDUCTOR: Final = {"cpp.dynamic_threads": True}
_LARGEST: Final = (1 << 31) - 1


class _Pass(torch.nn.Module):
    """A pass in the form that torch.export takes."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self._function = kernel.function

    def forward(self, *inputs: Tensor) -> Any:  # noqa: ANN401  (what the pass returns)
        return self._function(*inputs)


def export_kernel(kernel: Kernel) -> ExportedProgram:
    """Return a pass as a graph for any number of rows and classes."""
    dims = {"r": Dim("rows", max=_LARGEST), "c": Dim("classes", max=_LARGEST)}
    shapes = tuple({at: dims[axis] for at, axis in enumerate(axes)} for axes in kernel.axes)
    return torch.export.export(_Pass(kernel), kernel.inputs(), dynamic_shapes=(shapes,))


def compile_kernel(kernel: Kernel, into: Path, scratch: Path) -> None:
    """Compile a pass into the shared library ``into``, which appears when it is complete.

    Args:
        kernel: the pass.
        into: the library.
        scratch: a folder on the same file system for what is made on the way.

    Raises:
        RuntimeError: the compiler failed; the message is its own.
    """
    with TemporaryDirectory(dir=scratch) as folder:
        package = torch._inductor.aoti_compile_and_package(  # noqa: SLF001  (documented so)
            export_kernel(kernel),
            package_path=f"{folder}/kernel.pt2",
            inductor_configs=dict(_INDUCTOR),
        )
        with zipfile.ZipFile(package) as archive:
            # The library alone: loading a package would unpack it again in every process.
            (library,) = (name for name in archive.namelist() if name.endswith(".so"))
            complete = Path(archive.extract(library, folder))
        complete.replace(into)
