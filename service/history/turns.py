"""Work that is taken up again and again, in a thread of its own."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable


class Turns(ABC):
    """A thread that works, rests and works again until it is stopped.

    Args:
        name: of the thread.
        rest_s: how long it rests after a turn that failed; most also after one that did not.
        report: told of what went wrong; the next turn tries again.
    """

    def __init__(self, name: str, *, rest_s: float, report: Callable[[Exception], None]) -> None:
        self._rest_s = rest_s
        self._report = report
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Rest no longer."""
        self._wanted.set()

    def stop(self) -> None:
        """End after the part of a turn that is being done."""
        self._stopped.set()
        self._wanted.set()
        self._thread.join()

    @abstractmethod
    def _turn(self) -> float:
        """Do what there is to do, part by part until stopped; return how long to rest, seconds."""

    def _run(self) -> None:
        while not self._stopped.is_set():
            rest_s = self._rest_s
            try:
                rest_s = self._turn()
            except Exception as error:  # noqa: BLE001  (one turn's bug must not end all others)
                self._report(error)
            self._wanted.wait(rest_s)
            self._wanted.clear()
