"""Which passes serve: the compiled ones where they are built, the eager ones until then.

Nobody waits for a compiler. Where the compiled passes are missing and there is a compiler, a
process of its own builds them at the lowest priority, and they take over when all are there.
"""

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from structlog.typing import FilteringBoundLogger

from xentcore import EAGER, Passes, load_passes

State = Literal["eager", "building", "compiled", "failed"]
WarmUp = Callable[[Passes], object]
_LOWEST_PRIORITY: Final = 19


class Kernels:
    """The passes that evaluations use; each keeps those that it began with.

    Args:
        root: where they are kept, for every source, torch and processor.
        wanted: ``auto`` takes compiled ones and builds them if need be; ``built`` takes them where
            they are built; ``eager`` does neither.
        warm_up: evaluates something with passes that have just been loaded, in a thread.
        log: told when they take over, and when they cannot be built.
    """

    def __init__(
        self,
        root: Path,
        *,
        wanted: Literal["auto", "built", "eager"],
        warm_up: WarmUp,
        log: FilteringBoundLogger,
    ) -> None:
        self._root = root
        self._wanted = wanted
        self._warm_up = warm_up
        self._log = log
        self._building: asyncio.Task[None] | None = None
        self.builder: Process | None = None
        self.passes = EAGER
        self.state: State = "eager"

    async def start(self) -> None:
        """Take the compiled passes if they are built; otherwise begin to build them."""
        if self._wanted == "eager" or await self._take_over():
            return
        if self._wanted == "auto" and shutil.which(os.environ.get("CXX") or "g++"):
            self.state = "building"
            self._building = asyncio.create_task(self._build())

    async def stop(self) -> None:
        """Give up building."""
        if self._building is not None:
            self._building.cancel()
            await asyncio.wait([self._building])

    async def _take_over(self) -> bool:
        """Serve with the compiled passes, if all of them are there and can be loaded."""
        try:
            passes = load_passes(self._root)
        except OSError as error:
            self.state = "failed"
            self._log.warning("kernels cannot be loaded", error=str(error))
            return True
        if passes is None:
            return False
        await asyncio.to_thread(self._warm_up, passes)
        self.passes, self.state = passes, "compiled"
        self._log.info("kernels", passes=passes.name)
        return True

    async def _build(self) -> None:
        command = ["-m", "xentcore.kernels", "build", "--processes", "1"]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            *("--root", str(self._root), "--nice", str(_LOWEST_PRIORITY)),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
            start_new_session=True,  # a group of its own: the compilers it starts end with it
        )
        self.builder = process
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        if code == 0 and await self._take_over():
            return
        self.state = "failed"
        self._log.warning("kernels cannot be built", exit_code=code)
