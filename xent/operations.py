"""Operations, written once for both clients: blocking in the one, awaitable in the other."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from xent.calls import Call

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """Sends a call and returns its result."""

    def _send(self, call: Call[T]) -> T:
        raise NotImplementedError


class Awaitable:
    """Sends a call and returns its result when awaited."""

    async def _send(self, call: Call[T]) -> T:
        raise NotImplementedError


class Operation(Generic[P, T]):
    """A method that describes a call, as one that makes it.

    Args:
        build: the method; what it returns is sent by the object that it is called on.
    """

    def __init__(self, build: Callable[Concatenate[Any, P], Call[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__
        self.__wrapped__ = build  # what inspect.signature reads

    @overload
    def __get__(self, sender: None, owner: type) -> "Operation[P, T]": ...
    @overload
    def __get__(self, sender: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, sender: Awaitable, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, sender: Any, owner: type) -> Any:
        """Return the bound method."""
        if sender is None:
            return self
        build, send = self._build, sender._send  # noqa: SLF001  (a base class of this module)

        @wraps(build)
        def call(*positional: P.args, **named: P.kwargs) -> Any:  # noqa: ANN401  (or its coroutine)
            return send(build(sender, *positional, **named))

        return call

    def __call__(self, sender: Any, *positional: P.args, **named: P.kwargs) -> Any:  # noqa: ANN401
        """Call the method of a client, or of a project: ``Client.variants(client)``."""
        return self.__get__(sender, type(sender))(*positional, **named)


def operation(build: Callable[Concatenate[Any, P], Call[T]]) -> Operation[P, T]:
    """Make a method that describes a call one that makes it."""
    return Operation(build)
