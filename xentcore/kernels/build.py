"""Compiling what is missing, in processes of their own."""

import fcntl
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from xentcore.kernels.cache import folder
from xentcore.kernels.catalogue import kernels
from xentcore.kernels.compiler import compile_kernel


def build(root: Path, processes: int) -> Iterator[str]:
    """Compile every pass that does not lie below ``root`` yet; yield names as they are done.

    Args:
        root: where the folder of this source, torch and processor is, or will be.
        processes: how many compile at the same time.

    Raises:
        RuntimeError: there is no compiler, or it failed; the message is its own.
    """
    here = folder(root)
    here.mkdir(parents=True, exist_ok=True)
    with _alone(here):
        yield from _build_missing(here, processes)


def _build_missing(here: Path, processes: int) -> Iterator[str]:
    missing = [each for each in kernels() if not (here / f"{each.stem}.so").exists()]
    if not missing:
        return
    # The compiler's intermediate files are of no use once the libraries are there; those of a build
    # that was killed go now.
    scratch = here / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    # Not forked: a fork of a process with threads may stand still for ever.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        processes, mp_context=spawn, initializer=_use, initargs=(scratch,)
    ) as pool:
        running = {
            pool.submit(compile_kernel, each, here / f"{each.stem}.so", scratch): each.stem
            for each in missing
        }
        for done in as_completed(running):
            done.result()
            yield running[done]
    shutil.rmtree(scratch)


def _use(scratch: Path) -> None:
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(scratch)


@contextmanager
def _alone(here: Path) -> Iterator[None]:
    """Wait until nobody else builds here: whoever comes second finds everything done."""
    with (here / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
