"""What to do next: send, wait and send again, or be done. Neither clock nor socket is here.

A conversation is a generator. It yields steps; whoever drives it does them, waiting or not, and
sends back what came of them.
"""

import random
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeVar

from xent.calls import CLIENT_ERROR, Call, Reply
from xent.configuration import Configuration, Retries
from xent.errors import NoAnswer, QueueFull, Unavailable, Unreadable, XentError

T = TypeVar("T")
USER_AGENT: Final = "xent-python"
REMEMBERED: Final = 64  # results; a dashboard asks for a dozen


@dataclass(frozen=True, slots=True)
class Send:
    """Send the call with these headers."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Nobody answered.

    Attributes:
        error: what is raised if this is the end.
        again: whether it may help to try again.
        arrived: whether the service may have begun to do what was asked.
    """

    error: NoAnswer
    again: bool
    arrived: bool


Step = Send | Wait
Outcome = Reply | Failed | None


@dataclass(slots=True)
class Memory:
    """Results by what was asked, with the ETag that says whether they still hold."""

    _kept: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def etag(self, key: str) -> str | None:
        """Return the ETag of what is kept."""
        return self._kept[key][0] if key in self._kept else None

    def result(self, key: str) -> Any:  # noqa: ANN401  (of whatever call it was)
        """Return what is kept."""
        return self._kept[key][1]

    def keep(self, key: str, etag: str | None, result: object) -> None:
        """Keep a result; the one that was kept first goes."""
        if etag is None:
            return
        self._kept.pop(key, None)
        self._kept[key] = (etag, result)
        if len(self._kept) > REMEMBERED:
            self._kept.pop(next(iter(self._kept)), None)  # threads may do so together


def converse(
    call: Call[T], configuration: Configuration, memory: Memory
) -> Generator[Step, Outcome, T]:
    """Yield steps until there is a result.

    Raises:
        Problem: the service says why not, and trying again does not help or did not.
        NoAnswer: nobody answered.
        Unreadable: what came is no answer of Xent.
    """
    key = f"{call.path}?{sorted(call.query.items())}"
    headers = _headers(call, configuration, memory.etag(key) if call.remembered else None)
    retries = configuration.retries
    tries = 0
    while True:
        outcome = yield Send(headers)
        if outcome is None:
            raise AssertionError("what came of what was sent must be told")
        tries += 1
        if isinstance(outcome, Reply) and outcome.status < CLIENT_ERROR:
            return _result(call, outcome, memory, key)
        error, wait_s = _judged(call, outcome, tries, retries)
        if wait_s is None:
            raise error
        yield Wait(wait_s)


def _headers(call: Call[Any], configuration: Configuration, etag: str | None) -> dict[str, str]:
    headers = {"accept": call.accept, "user-agent": USER_AGENT}
    if configuration.key is not None:
        headers["authorization"] = f"Bearer {configuration.key}"
    if call.body is not None:
        headers["content-type"] = call.body.media_type
        if call.body.length is not None:
            headers["content-length"] = str(call.body.length)
    if etag is not None:
        headers["if-none-match"] = etag
    return headers


def _result(call: Call[T], reply: Reply, memory: Memory, key: str) -> T:
    if reply.status == HTTPStatus.NOT_MODIFIED and call.remembered:
        kept: T = memory.result(key)
        return kept
    if not HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
        raise Unreadable(f"status {reply.status}: is this Xent, or does something stand before it?")
    result = call.read(reply)
    if call.remembered:
        memory.keep(key, reply.headers.get("etag"), result)
    return result


def _judged(
    call: Call[Any], outcome: Reply | Failed, tries: int, retries: Retries
) -> tuple[XentError, float | None]:
    """Return what went wrong, and how long to wait before trying again; ``None`` for not at all."""
    after_s: float | None = None
    if isinstance(outcome, Reply):
        problem = outcome.problem()
        error: XentError = problem
        again = isinstance(problem, QueueFull | Unavailable)
        after_s = problem.retry_after_s
    else:
        error = outcome.error
        again = outcome.again and (call.idempotent or not outcome.arrived)
    used_up = isinstance(outcome, Reply) or outcome.arrived
    only_once = call.body is not None and call.body.once and used_up
    too_long = after_s is not None and after_s > retries.longest_s
    if not again or only_once or too_long or tries >= retries.attempts:
        return error, None
    # Full jitter: clients that were refused together shall not come back together.
    jitter_s = random.uniform(0, min(retries.longest_s, retries.base_s * 2 ** (tries - 1)))  # noqa: S311
    return error, (after_s or 0.0) + jitter_s
