"""The client that waits."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from xent.answers import Answer
from xent.api import Api, divided, evaluation, loss_path
from xent.batches import Batch
from xent.calls import Call
from xent.configuration import Configuration, Retries
from xent.conversations import Memory, Outcome, Step, Wait, converse
from xent.errors import InvalidBatch
from xent.history import Queries
from xent.models import Asking, Models
from xent.operations import Blocking
from xent.transport import Receiver, Requests, failed, timeout
from xent.variants import Losses

T = TypeVar("T")


class Client(Losses[Answer], Api, Models, Blocking):
    """A connection to a service. Threads may share it.

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
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.configuration = Configuration.of(url, key, timeout_s, retries)
        self._memory = Memory()
        self._http = httpx2.Client(timeout=timeout(self.configuration), transport=transport)
        self._requests = Requests(self.configuration, self._http)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.configuration.url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def project(self, name: str) -> "Project":
        """Return a project of the history, to be asked about."""
        return Project(self, name)

    def model(self, name: str, version: str | None = None) -> "Model":
        """Return a model that the service runs; without a version, the newest."""
        return Model(self, name, version)

    def _loss(
        self, variant: str, logits: object, labels: object, given: Mapping[str, Any]
    ) -> Answer:
        settings, options = divided(given)
        return self._send(evaluation(loss_path(variant), Batch(logits, labels), settings, options))

    def _send(self, call: Call[T]) -> T:
        conversation = converse(call, self.configuration, self._memory)
        step = next(conversation)
        while True:
            try:
                step = conversation.send(self._do(step, call))
            except StopIteration as end:
                result: T = end.value
                return result

    def _do(self, step: Step, call: Call[Any]) -> Outcome:
        if isinstance(step, Wait):
            time.sleep(step.seconds)
            return None
        content = None if call.body is None else call.body.parts()
        if isinstance(content, AsyncIterator):
            raise InvalidBatch("chunks that come asynchronously need AsyncClient")
        try:
            request = self._requests.request(call, step.headers, content)
            with closing(self._http.send(request, stream=True)) as response:
                receiver = Receiver(call, response)
                parts = response.iter_bytes() if receiver.encoded else response.iter_raw()
                for part in parts:
                    receiver.add(part)
                return receiver.reply()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return failed(error, self.configuration.url)


class Project(Queries, Blocking):
    """A project of the history."""

    def __init__(self, client: Client, name: str) -> None:
        super().__init__(name)
        self._client = client

    def _send(self, call: Call[T]) -> T:
        return self._client._send(call)  # noqa: SLF001  (the same package's)


class Model(Losses[Answer], Asking, Blocking):
    """A model that the service runs: ``model.loss("focal", features, labels, gamma=2.0)``.

    ``loss`` takes features in the place of logits; gradients are by the logits, all the same. A
    ``track`` needs neither model nor version: ``Track("shop", None, None, "products")``.
    """

    def __init__(self, client: Client, name: str, version: str | None = None) -> None:
        super().__init__(name, version)
        self._client = client

    def _loss(
        self, variant: str, logits: object, labels: object, given: Mapping[str, Any]
    ) -> Answer:
        return self._send(self._given(variant, logits, labels, given))

    def _send(self, call: Call[T]) -> T:
        return self._client._send(call)  # noqa: SLF001  (the same package's)
