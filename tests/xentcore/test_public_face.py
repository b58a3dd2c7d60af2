"""What xentcore shows to others, and what it needs to do so."""

import ast
import doctest
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import xentcore

ROOT = Path(xentcore.__file__).parent
MODULES = [module.name for module in pkgutil.walk_packages(xentcore.__path__, "xentcore.")]


def test_the_exported_names_are_those_of_all() -> None:
    shown = {
        name
        for name, value in vars(xentcore).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert shown == set(xentcore.__all__)


def test_all_is_sorted_as_ruff_sorts_it() -> None:
    constants = [name for name in xentcore.__all__ if name.isupper()]
    classes = [name for name in xentcore.__all__ if name[0].isupper() and not name.isupper()]
    functions = [name for name in xentcore.__all__ if name.islower()]
    assert xentcore.__all__ == sorted(constants) + sorted(classes) + sorted(functions)


@pytest.mark.parametrize("path", list(ROOT.rglob("*.py")), ids=lambda path: path.stem)
def test_a_module_imports_torch_and_the_standard_library_only(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            imported.add(str(node.module))
    packages = {name.split(".")[0] for name in imported}
    assert packages <= {"torch", "xentcore"} | sys.stdlib_module_names


WITHOUT_NUMPY = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"numpy", "scipy", "pydantic", "fastapi"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())

import torch
from xentcore import OUTPUTS, Spec, evaluate

results = evaluate(
    torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 1.0]]),
    torch.tensor([1, 0]),
    [Spec("sparse"), Spec("focal")],
    outputs=OUTPUTS,
)
assert all(result.loss > 0 for result in results)
assert "numpy" not in sys.modules
"""


def test_it_computes_where_numpy_is_not_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_NUMPY],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["xentcore", *MODULES])
def test_examples_in_docstrings_hold(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0


@pytest.mark.parametrize("name", xentcore.__all__)
def test_everything_that_is_shown_is_explained(name: str) -> None:
    value = getattr(xentcore, name)
    if isinstance(value, type | FunctionType):
        assert value.__doc__


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawing = str(xentcore.errors.__doc__)
    errors = [value for value in vars(xentcore.errors).values() if isinstance(value, type)]
    for error in errors:
        if issubclass(error, xentcore.XentError):
            assert error.__name__ in drawing
            assert error.__name__ in xentcore.__all__
