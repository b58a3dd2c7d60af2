"""A real server on a free loopback port, and small things that many tests need."""

import asyncio
import math
import threading
import time
from collections.abc import Callable

import httpx2

from service.kernels import Kernels
from service.metrics import Metrics
from service.server import Server, make_server
from service.settings import Settings
from service.tracking import Tracking

BATCH = {"logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]], "labels": [0, 3]}
SAFETENSORS = "application/x-safetensors"
# Tests wait for conditions, not for a time to pass, and give up only after this. What they wait for
# takes a moment where the machine has nothing else to do; a stall of seconds fails none of them.
PATIENCE_S = 60.0


class Running:
    """A server in a thread of its own."""

    def __init__(self, **settings: object) -> None:
        given = {
            "port": 0,
            "log_level": "warning",
            "workers": 1,
            "threads": 1,
            "kernels": "eager",
            **settings,
        }
        self.server: Server = make_server(Settings.model_validate(given))
        self.kernels: Kernels = self.server.config.app.state.kernels  # type: ignore[union-attr]
        self.metrics: Metrics = self.server.config.app.state.metrics  # type: ignore[union-attr]
        self.tracking: Tracking = self.server.config.app.state.tracking  # type: ignore[union-attr]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        until(lambda: self.server.started or not self._thread.is_alive())
        self.port: int = self.server.servers[0].sockets[0].getsockname()[1]
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_S)

    def _run(self) -> None:
        async def serve() -> None:
            self.loop = asyncio.get_running_loop()
            await self.server.serve()

        with asyncio.Runner(loop_factory=self.server.config.get_loop_factory()) as runner:
            runner.run(serve())

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self._thread.join(timeout=PATIENCE_S)

    def alive(self) -> bool:
        """Tell whether it answers. Where its deadlines are short, a request may miss them."""
        try:
            return self.client.post("/loss/sparse", json=BATCH).status_code == 200
        except httpx2.TransportError:
            return False


def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds."""
    last = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < last, "waited in vain"
        time.sleep(0.005)


def alike(found: object, expected: object, relative: float = 1e-12) -> bool:
    """Tell whether two answers are the same but for the last digits of their real numbers."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            alike(found[key], expected[key], relative) for key in found
        )
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(
            alike(one, other, relative) for one, other in zip(found, expected, strict=True)
        )
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=relative, abs_tol=1e-15)
    return found == expected
