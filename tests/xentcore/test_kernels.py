"""The compiled passes: the same numbers as the eager ones, for any shape, from any thread."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.xentcore.conftest import ask, assert_exact, draw, name_of
from tests.xentcore.oracle import CASES, Case, gradients, losses
from xentcore import EAGER, OUTPUTS, Options, Passes, evaluate, kernels_dir, load_passes
from xentcore.kernels import build as building
from xentcore.kernels.build import build
from xentcore.kernels.cache import default_root, folder
from xentcore.kernels.catalogue import Kernel, kernels
from xentcore.kernels.compiler import compile_kernel, export_kernel
from xentcore.kernels.library import Library

KERNELS = list(kernels())
# Which of its two layouts a pass runs in, the shape of its arguments decides.
PASSES = [kernel for kernel in KERNELS if not kernel.short]
WRITING = ("measure_keeping", "measure_spreading", "survey", "write_scaled", "write_tilted")
Answer = Tensor | tuple[Tensor, ...]
SHAPES = [(1, 2), (3, 7), (17, 64), (70, 1000), (2, 100_003), (40_000, 10)]
EXTREME_SHAPES = [(1, 1_000_003), (2_000_000, 10)]


def stem_of(value: object) -> str:
    return value.stem if isinstance(value, Kernel) else name_of(value)


def arguments(kernel: Kernel, rows: int, classes: int) -> list[Tensor]:
    """Return what a pass is given: logits far from 0, some of them -inf, pivots anywhere."""
    generator = torch.Generator().manual_seed(rows + classes)
    logits = 4 * torch.randn(rows, classes, generator=generator, dtype=kernel.dtype) + 1e4
    logits[::3, ::5] = -torch.inf
    anchor = logits.amax(dim=1)
    anchor = anchor.masked_fill(anchor.isneginf(), 0)
    pivot = torch.randint(classes, (rows,), generator=generator)
    places = torch.arange(classes, dtype=kernel.dtype)
    found = [logits, anchor, pivot, places]
    if kernel.name == "derive":
        at_pivot = -4 * torch.rand(rows, generator=generator, dtype=torch.float64)
        at_pivot[::7] = -torch.inf
        at_pivot[1::7] = 0
        found = [at_pivot]
    elif kernel.name in ("column_sums", "write_scaled"):
        kept = (logits - anchor[:, None]).exp()
        found = [kept, pivot, places][: len(kernel.axes) // 2]
    elif kernel.name == "write_tilted":
        found = [(logits - anchor[:, None]).exp(), logits, anchor, pivot, places]
    elif kernel.name in ("measure_elements", "element_sums"):
        finite = logits.nan_to_num(neginf=-30.0) % 40 - 20
        targets = torch.rand(rows, classes, generator=generator, dtype=kernel.dtype).round()
        found = [finite, targets, *EAGER.measure_elements(finite)[2:], finite]
        found = found[: len(kernel.axes)]
    elif kernel.name.startswith("weighted_sum"):
        shape = (classes,) if kernel.axes[2] == "c" else (rows, classes)
        weights = torch.randint(3, shape, generator=generator).to(kernel.dtype) / 2
        found = [logits, anchor, weights]
    elif kernel.name == "first_peak":
        found = [logits, anchor, places]
    for place in range(len(found), len(kernel.axes)):
        dtype = torch.float64 if place in kernel.doubles else kernel.dtype
        shape = (rows, classes) if kernel.axes[place] == "rc" else (rows,)
        found.append(torch.rand(shape, generator=generator, dtype=dtype))
    return found


def all_of(outputs: Answer | None) -> tuple[Tensor, ...]:
    if outputs is None:
        return ()
    return outputs if isinstance(outputs, tuple) else (outputs,)


def answer(run: Callable[..., Any], kernel: Kernel, given: list[Tensor]) -> tuple[Tensor, ...]:
    """Return what a pass answers, and what it writes to the matrix it is given for that."""
    copies = [tensor.clone() for tensor in given]
    outputs = all_of(run(*copies))
    if kernel.name not in WRITING:
        assert all(map(torch.equal, copies, given)), "inputs are never written to"
        return outputs
    assert all(map(torch.equal, copies[:-1], given)), "inputs are never written to"
    return *outputs, copies[-1]


def assert_agree(found: Answer, expected: Answer, dtype: torch.dtype) -> None:
    relative = 1e-12 if dtype == torch.float64 else 2e-6
    for mine, theirs in zip(all_of(found), all_of(expected), strict=True):
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs, rtol=relative, atol=relative / 20, equal_nan=True)


def pass_of(passes: Passes, kernel: Kernel) -> Callable[..., Any]:
    run: Callable[..., Any] = getattr(passes, kernel.name.partition("-")[0])
    return run


# --- what a compiler is not needed for ------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS, ids=stem_of)
def test_what_is_exported_gives_the_numbers_of_its_source(kernel: Kernel) -> None:
    given = arguments(kernel, 5, 9)
    found = answer(export_kernel(kernel).module(), kernel, given)
    assert_agree(found, answer(kernel.function, kernel, given), kernel.dtype)


def test_every_pass_is_compiled_in_every_dtype() -> None:
    names = {field.name for field in fields(Passes) if callable(getattr(EAGER, field.name))}
    names.remove("laid_out")
    for dtype, left_out in ((torch.float32, {"derive"}), (torch.float64, set())):
        compiled = {k.name.partition("-")[0] for k in KERNELS if k.dtype == dtype}
        assert compiled == names - left_out  # derive takes float64 alone


def test_the_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XENT_KERNELS_DIR", str(tmp_path))
    assert default_root() == tmp_path
    monkeypatch.delenv("XENT_KERNELS_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels_dir() == tmp_path / "xent" / "kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert kernels_dir() == Path.home() / ".cache/xent/kernels"
    assert torch.__version__ in folder(tmp_path).name


def test_passes_that_are_not_built_are_not_loaded(tmp_path: Path) -> None:
    assert load_passes(tmp_path) is None


def test_a_broken_library_is_an_error(tmp_path: Path) -> None:
    here = folder(tmp_path)
    here.mkdir()
    for each in KERNELS:
        (here / f"{each.stem}.so").write_bytes(b"not a library")
    with pytest.raises(OSError, match=r"\.so"):
        load_passes(tmp_path)


# --- with a compiler ------------------------------------------------------------------------------

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@pytest.fixture(scope="session")
def compiled() -> Passes:
    """The compiled passes, built where they are missing."""
    list(build(default_root(), processes=2))
    passes = load_passes()
    assert passes is not None
    return passes


pytestmark = pytest.mark.timeout(900)  # the first test waits for the compiler


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kernel", PASSES, ids=stem_of)
def test_compiled_and_eager_agree(kernel: Kernel, shape: tuple[int, int], compiled: Passes) -> None:
    given = arguments(kernel, *shape)
    found = answer(pass_of(compiled, kernel), kernel, given)
    assert_agree(found, answer(pass_of(EAGER, kernel), kernel, given), kernel.dtype)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("shape", EXTREME_SHAPES, ids=str)
@pytest.mark.parametrize("kernel", [k for k in PASSES if k.dtype == torch.float32], ids=stem_of)
def test_compiled_and_eager_agree_on_extreme_shapes(
    kernel: Kernel, shape: tuple[int, int], compiled: Passes
) -> None:
    given = arguments(kernel, *shape)
    found = answer(pass_of(compiled, kernel), kernel, given)
    assert_agree(found, answer(pass_of(EAGER, kernel), kernel, given), kernel.dtype)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("shape", [(37, 5), (19, 64), (33, 1003)], ids=str)
@pytest.mark.parametrize("kernel", PASSES, ids=stem_of)
def test_a_rows_numbers_do_not_depend_on_the_rows_beside_it(
    kernel: Kernel, shape: tuple[int, int], compiled: Passes
) -> None:
    if kernel.name in ("column_sums", "element_sums"):
        pytest.skip("has no number per row")
    given, run = arguments(kernel, *shape), pass_of(compiled, kernel)
    together = answer(run, kernel, given)
    rows = shape[0]
    for some in (slice(0, 1), slice(3, 20), slice(rows - 1, rows)):
        alone = answer(run, kernel, [t[some] if t.shape[0] == rows else t for t in given])
        for mine, theirs in zip(alone, together, strict=True):
            assert torch.equal(mine.nan_to_num(nan=-1.5), theirs[some].nan_to_num(nan=-1.5))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize(
    ("case", "kind"), [(case, kind) for case in CASES for kind in case.labels], ids=name_of
)
def test_every_row_is_the_definition(
    case: Case, kind: str, dtype: torch.dtype, compiled: Passes
) -> None:
    batch = draw(kind, 9, dtype, ranks=case.ranks)
    (result,) = evaluate(
        batch.logits,
        batch.labels,
        [case.spec],
        outputs={"gradient"},
        options=Options(reduction="none", gradient_dtype=torch.float64),
        passes=compiled,
    )
    assert result.per_sample is not None
    assert result.gradient is not None
    exact = losses(case.loss, batch.logits, batch.targets)
    assert_exact(result.per_sample.reshape(-1), exact, dtype)
    slopes = gradients(case.loss, batch.logits, batch.targets)
    assert_exact(result.gradient, slopes, dtype)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("kind", ["integer", "probabilities"])
def test_every_output_agrees(kind: str, compiled: Passes) -> None:
    batch = draw(kind, 200, torch.float64)
    outputs = set(OUTPUTS)
    (asked,) = [c.spec for c in CASES if c.spec.variant == "label-smoothing"][:1]
    expected = ask(asked, batch.logits, batch.labels, outputs=outputs)
    (found,) = evaluate(batch.logits, batch.labels, [asked], outputs=outputs, passes=compiled)
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    for name in ("per_class", "row_statistics"):
        mine, theirs = getattr(found, name), getattr(expected, name)
        for column, values in theirs.items():
            torch.testing.assert_close(mine[column], values, rtol=1e-11, atol=1e-12, equal_nan=True)
    assert found.hardest is not None
    assert expected.hardest is not None
    assert [row.row for row in found.hardest] == [row.row for row in expected.hardest]


@pytest.mark.slow
@needs_compiler
def test_what_was_not_compiled_for_is_computed_eagerly(
    compiled: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = KERNELS[0]
    given = arguments(kernel, 4, 6)
    monkeypatch.setattr("xentcore.kernels.load.EXACT_IN_FLOAT32", 5)
    found = pass_of(compiled, kernel)(*given)
    assert all(map(torch.equal, found, pass_of(EAGER, kernel)(*given)))


@pytest.mark.slow
@needs_compiler
def test_many_threads_get_the_same_numbers(compiled: Passes) -> None:
    kernel = KERNELS[0]
    given = arguments(kernel, 300, 1000)
    expected = compiled.measure(*given)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: compiled.measure(*given), range(100)):
            assert all(map(torch.equal, found, expected))


@pytest.mark.slow
@needs_compiler
def test_other_threads_run_on_while_a_pass_computes(compiled: Passes) -> None:
    given = arguments(KERNELS[0], 100_000, 500)

    def counted_meanwhile() -> int:
        thread = threading.Thread(target=lambda: compiled.measure(*given))
        counted = 0
        thread.start()
        while thread.is_alive():
            counted += 1
        return counted

    # With the lock held, the loop would come to its turn a few times at most. Without it that may
    # happen too, where other programs keep this thread from a core, but not every time.
    assert any(counted_meanwhile() > 1000 for _ in range(20))


@pytest.mark.slow
@needs_compiler
@pytest.mark.usefixtures("compiled")
def test_a_pass_without_memory_is_an_error() -> None:
    side = 1 << 22
    run = Library(folder(default_root()) / "measure_elements-float32.so")
    with pytest.raises(MemoryError, match="measure_elements-float32"):
        run(torch.zeros(1, 1).expand(side, side))


@needs_compiler
def test_only_what_is_missing_is_built_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wanted,) = (k for k in KERNELS if k.stem == "first_peak-float32")
    monkeypatch.setattr(building, "kernels", lambda: iter([wanted]))
    assert list(build(tmp_path, processes=1)) == [wanted.stem]
    assert {path.name for path in folder(tmp_path).iterdir()} == {"first_peak-float32.so", "lock"}
    assert list(build(tmp_path, processes=1)) == []
    given = arguments(wanted, 70, 1000)
    run = Library(folder(tmp_path) / "first_peak-float32.so")
    assert_agree(answer(run, wanted, given), answer(wanted.function, wanted, given), wanted.dtype)


@needs_compiler
def test_a_compiler_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("false",))
    with pytest.raises(Exception, match=r"compil|Compil|Cxx"):
        compile_kernel(KERNELS[0], tmp_path / "library.so", tmp_path)
    assert not (tmp_path / "library.so").exists()


@pytest.mark.slow
@needs_compiler
@pytest.mark.usefixtures("compiled")
def test_the_command_says_where_everything_is() -> None:
    command = [sys.executable, "-m", "xentcore.kernels"]
    where = subprocess.run([*command, "where"], capture_output=True, text=True, check=True).stdout
    assert Path(where.strip()) == folder(default_root())
    built = subprocess.run([*command, "build"], capture_output=True, text=True, check=True).stdout
    assert built == f"all compiled passes are in {where}"
