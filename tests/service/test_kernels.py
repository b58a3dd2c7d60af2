"""Compiled passes in the service: taken where they are built, built where they are not."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from tests.service.conftest import Start
from tests.service.harness import BATCH, Running, until
from xentcore import kernels_dir
from xentcore.kernels.build import build
from xentcore.kernels.cache import folder

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
pytestmark = pytest.mark.timeout(900)  # the first test waits for the compiler


@pytest.fixture(autouse=True)
def busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the lowest priority a compiler waits for all the tests that run beside it."""
    monkeypatch.setattr("service.kernels._LOWEST_PRIORITY", 0)


@pytest.fixture(scope="session")
def built() -> Path:
    """Return the folder of folders in which all passes are built."""
    root = kernels_dir()
    list(build(root, processes=2))
    return root


def all_but(missing: str, built: Path, root: Path) -> Path:
    """Return a folder of folders in which one pass is missing."""
    shutil.copytree(folder(built), folder(root))
    (folder(root) / missing).unlink()
    return root


def state(server: Running) -> str:
    ready: dict[str, str] = server.client.get("/health/ready").json()
    counted = server.client.get("/metrics").text
    assert f'xent_kernels{{state="{ready["kernels"]}"}} 1.0' in counted
    return ready["kernels"]


def loss(server: Running) -> float:
    document = {**BATCH, "outputs": ["per_class", "calibration"]}
    answer: dict[str, float] = server.client.post("/loss/sparse", json=document).json()
    return answer["loss"]


@pytest.mark.parametrize("wanted", ["eager", "built"])
def test_nothing_is_built_that_was_not_wanted(wanted: str, start: Start, tmp_path: Path) -> None:
    server = start(kernels=wanted, kernels_dir=tmp_path)
    assert state(server) == "eager"
    assert not folder(tmp_path).exists()


def test_without_a_compiler_the_eager_passes_serve(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    server = start(kernels="auto", kernels_dir=tmp_path)
    assert state(server) == "eager"
    assert loss(server) == pytest.approx(0.8413626)


@pytest.mark.slow
@needs_compiler
def test_what_is_built_serves_at_once(start: Start, built: Path) -> None:
    server = start(kernels="built", kernels_dir=built)
    assert state(server) == "compiled"
    assert loss(server) == pytest.approx(0.8413626)


@pytest.mark.slow
@needs_compiler
def test_passes_are_swapped_under_load_without_a_change(
    start: Start, built: Path, tmp_path: Path
) -> None:
    root = all_but("first_peak-float32.so", built, tmp_path)
    server = start(kernels="auto", kernels_dir=root)
    assert state(server) == "building"
    losses: set[float] = set()
    done = threading.Event()

    def ask_on() -> None:
        while not done.is_set():
            losses.add(round(loss(server), 9))

    thread = threading.Thread(target=ask_on)
    thread.start()
    try:
        until(lambda: server.kernels.state != "building", timeout_s=800)
        seen = len(losses)
        until(lambda: server.kernels.state == "compiled")
    finally:
        done.set()
        thread.join()
    assert seen == len(losses) == 1


@pytest.mark.slow
@needs_compiler
def test_a_compiler_that_fails_leaves_the_eager_passes(
    start: Start, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "false")
    server = start(kernels="auto", kernels_dir=all_but("spread-float64.so", built, tmp_path))
    until(lambda: server.kernels.state == "failed", timeout_s=800)
    assert state(server) == "failed"
    assert server.alive()


@pytest.mark.slow
@needs_compiler
def test_a_library_that_cannot_be_loaded_leaves_the_eager_passes(
    start: Start, built: Path, tmp_path: Path
) -> None:
    root = all_but("spread-float64.so", built, tmp_path)
    (folder(root) / "spread-float64.so").write_bytes(b"not a library")
    server = start(kernels="built", kernels_dir=root)
    assert state(server) == "failed"
    assert server.alive()


@needs_compiler
def test_building_ends_with_the_service(start: Start, tmp_path: Path) -> None:
    server = start(kernels="auto", kernels_dir=tmp_path)
    until(folder(tmp_path).exists)
    builder = server.kernels.builder
    assert builder is not None
    assert alive(builder.pid)
    server.stop()
    until(lambda: not alive(builder.pid))


def alive(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True
