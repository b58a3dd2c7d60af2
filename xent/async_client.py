"""The client that is awaited."""

from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import httpx2

from xent.answers import Answer
from xent.api import Api, divided, evaluation, loss_path
from xent.batches import Batch
from xent.calls import Call
from xent.configuration import Configuration, Retries
from xent.conversations import Memory, Outcome, Step, Wait, converse
from xent.history import Queries
from xent.models import Asking, Models
from xent.operations import Awaitable
from xent.safetensors import Buffer
from xent.transport import Receiver, Requests, failed, timeout
from xent.variants import Losses

T = TypeVar("T")


class AsyncClient(Losses[Coroutine[Any, Any, Answer]], Api, Models, Awaitable):
    """A connection to a service whose methods are awaited. Tasks may share it.

    Args:
        url: where the service is; ``None`` for ``XENT_URL``, else http://127.0.0.1:8000.
        key: ``None`` for ``XENT_API_KEY``, else none.
        timeout_s: longest silence of the service.
        retries: how often to try again when the service is busy or nobody answers.
        transport: of HTTPX, to speak through something other than a socket.

    Raises:
        InvalidConfiguration: no URL, or no key.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        timeout_s: float = 150.0,
        retries: Retries | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.configuration = Configuration.of(url, key, timeout_s, retries)
        self._memory = Memory()
        self._http = httpx2.AsyncClient(timeout=timeout(self.configuration), transport=transport)
        self._requests = Requests(self.configuration, self._http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncClient({self.configuration.url!r})"

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def project(self, name: str) -> "AsyncProject":
        """Return a project of the history, to be asked about."""
        return AsyncProject(self, name)

    def model(self, name: str, version: str | None = None) -> "AsyncModel":
        """Return a model that the service runs; without a version, the newest."""
        return AsyncModel(self, name, version)

    async def _loss(
        self, variant: str, logits: object, labels: object, given: Mapping[str, Any]
    ) -> Answer:
        settings, options = divided(given)
        return await self._send(
            evaluation(loss_path(variant), Batch(logits, labels), settings, options)
        )

    async def _send(self, call: Call[T]) -> T:
        conversation = converse(call, self.configuration, self._memory)
        step = next(conversation)
        while True:
            try:
                step = conversation.send(await self._do(step, call))
            except StopIteration as end:
                result: T = end.value
                return result

    async def _do(self, step: Step, call: Call[Any]) -> Outcome:
        if isinstance(step, Wait):
            await anyio.sleep(step.seconds)
            return None
        content = None if call.body is None else call.body.parts()
        if isinstance(content, Iterator):
            content = _in_turn(content)
        try:
            request = self._requests.request(call, step.headers, content)
            async with aclosing(await self._http.send(request, stream=True)) as response:
                receiver = Receiver(call, response)
                parts = response.aiter_bytes() if receiver.encoded else response.aiter_raw()
                async for part in parts:
                    receiver.add(part)
                return receiver.reply()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return failed(error, self.configuration.url)


async def _in_turn(parts: Iterator[Buffer]) -> AsyncIterator[Buffer]:
    """Yield parts that are there already, or are made while they are sent."""
    for part in parts:
        yield part


class AsyncProject(Queries, Awaitable):
    """A project of the history, whose methods are awaited."""

    def __init__(self, client: AsyncClient, name: str) -> None:
        super().__init__(name)
        self._client = client

    async def _send(self, call: Call[T]) -> T:
        return await self._client._send(call)  # noqa: SLF001  (the same package's)


class AsyncModel(Losses[Coroutine[Any, Any, Answer]], Asking, Awaitable):
    """A model that the service runs, whose methods are awaited; else as :class:`xent.Model`."""

    def __init__(self, client: AsyncClient, name: str, version: str | None = None) -> None:
        super().__init__(name, version)
        self._client = client

    async def _loss(
        self, variant: str, logits: object, labels: object, given: Mapping[str, Any]
    ) -> Answer:
        return await self._send(self._given(variant, logits, labels, given))

    async def _send(self, call: Call[T]) -> T:
        return await self._client._send(call)  # noqa: SLF001  (the same package's)
