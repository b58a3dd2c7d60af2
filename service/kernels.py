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
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal

from structlog.typing import FilteringBoundLogger

from xentcore import EAGER, Passes, load_passes

State = Literal["eager", "building", "compiled", "failed"]
WarmUp = Callable[[Passes], Awaitable[object]]
_LOWEST_PRIORITY: Final = 19


class Kernels:
    """The passes that evaluations use; each keeps those that it began with.

    Args:
        root: where they are kept, for every source, torch and processor.
        wanted: ``auto`` takes compiled ones and builds them if need be; ``built`` takes them where
            they are built; ``eager`` does neither.
        warm_up: evaluates something with passes that were built while others served.
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

    async def take(self) -> None:
        """Take the compiled passes if they are built."""
        if self._wanted != "eager":
            passes = await self._load()
            if passes is not None:
                self._serve(passes)

    def begin_building(self) -> None:
        """Begin to build them if they are not, and are wanted."""
        compiler = shutil.which(os.environ.get("CXX") or "g++")
        if self._wanted == "auto" and self.state == "eager" and compiler:
            self.state = "building"
            self._building = asyncio.create_task(self._build())

    async def stop(self) -> None:
        """Give up building."""
        if self._building is not None:
            self._building.cancel()
            await asyncio.wait([self._building])

    async def _load(self) -> Passes | None:
        """Return the compiled passes, if all of them are there and can be loaded."""
        try:
            return await asyncio.to_thread(load_passes, self._root)
        except OSError as error:
            self.state = "failed"
            self._log.warning("kernels cannot be loaded", error=str(error))
            return None

    def _serve(self, passes: Passes) -> None:
        self.passes, self.state = passes, "compiled"
        self._log.info("kernels", passes=passes.name)

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
        passes = await self._load() if code == 0 else None
        if passes is not None:
            await self._take_over(passes)
        elif self.state != "failed":  # and said so
            self.state = "failed"
            self._log.warning("kernels cannot be built", exit_code=code)

    async def _take_over(self, passes: Passes) -> None:
        """Serve with passes that are new; those that served so far go on where these fail."""
        try:
            await self._warm_up(passes)
        except Exception as error:  # noqa: BLE001  (whatever compiled code raises)
            self.state = "failed"
            self._log.warning("kernels do not work", error=str(error))
        else:
            self._serve(passes)
