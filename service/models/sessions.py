"""Models that are loaded: a few, those that were asked last."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Sessions(Generic[T]):
    """At most so many things that are costly to make, by key; what was not asked for goes first.

    What is in use when it goes lives on until it is not. From any thread.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._there: OrderedDict[str, Future[T]] = OrderedDict()

    def get(self, key: str, make: Callable[[], T]) -> T:
        """Return what there is for a key, made by one of those who ask at the same time.

        Raises:
            Whatever ``make`` does; whoever asks next tries again.
        """
        with self._lock:
            found = self._there.get(key)
            mine = found is None
            if found is None:
                found = self._there[key] = Future()
            self._there.move_to_end(key)
            while len(self._there) > self._most:
                self._there.popitem(last=False)
        if mine:
            try:
                found.set_result(make())
            except BaseException as error:
                with self._lock:
                    if self._there.get(key) is found:
                        del self._there[key]
                found.set_exception(error)
                raise
        return found.result()

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self._there)
