"""Passes to shared libraries: torch.export, then AOTInductor."""

import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from xentcore.kernels.catalogue import Kernel

_INDUCTOR: Final = {
    # Threads as torch.set_num_threads says at run time, not as many as the compiling machine had.
    "cpp.dynamic_threads": True,
    # Most of a compilation goes into what every library has alike. Its loops stay at -O3; measured,
    # the rest at -Og takes three quarters of the time of -O1, and a small call 0.1 us more.
    "aot_inductor.compile_wrapper_opt_level": "Og",
    # They would point into sources that are deleted.
    "aot_inductor.enable_line_tables": False,
}
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
    inductor = torch._inductor  # noqa: SLF001  (documented so)
    known = inductor.list_options()  # by this version of torch
    with TemporaryDirectory(dir=scratch) as folder:
        package = inductor.aoti_compile_and_package(
            export_kernel(kernel),
            package_path=f"{folder}/kernel.pt2",
            inductor_configs={name: value for name, value in _INDUCTOR.items() if name in known},
        )
        with zipfile.ZipFile(package) as archive:
            # The library alone: loading a package would unpack it again in every process.
            (library,) = (name for name in archive.namelist() if name.endswith(".so"))
            complete = Path(archive.extract(library, folder))
        complete.replace(into)
