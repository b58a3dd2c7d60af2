"""What both clients share of HTTPX: requests of calls, replies and failures of what comes."""

from collections.abc import Mapping
from typing import Any, Final

import httpx2

from xent.calls import Call, Reply
from xent.configuration import Configuration
from xent.conversations import Failed
from xent.errors import InvalidConfiguration, NoAnswer, TimedOut
from xent.safetensors import Buffer

CONNECT_S: Final = 5.0
OK: Final = 200


def timeout(configuration: Configuration) -> httpx2.Timeout:
    """Return how long to wait for what."""
    connect_s = min(CONNECT_S, configuration.timeout_s)
    return httpx2.Timeout(configuration.timeout_s, connect=connect_s)


class Requests:
    """Makes requests of calls. HTTPX's own way merges headers, URLs and timeouts for every one.

    Args:
        configuration: where the service is.
        http: who sends them, with its cookies, its encodings and its timeouts.
    """

    def __init__(
        self, configuration: Configuration, http: httpx2.Client | httpx2.AsyncClient
    ) -> None:
        self._url = configuration.url
        self._http = http
        self._encodings = {"accept-encoding": http.headers["accept-encoding"]}
        self._extensions = {"timeout": http.timeout.as_dict()}

    def request(self, call: Call[Any], headers: Mapping[str, str], content: Any) -> httpx2.Request:  # noqa: ANN401
        """Return a request.

        Raises:
            httpx2.InvalidURL: there can be none.
        """
        return httpx2.Request(
            call.method,
            f"{self._url}{call.path}",
            params=dict(call.query) or None,
            headers={**self._encodings, **headers},
            cookies=self._http.cookies,
            content=content,
            extensions=self._extensions,
        )


class Receiver:
    """Takes a reply part by part, into memory of its size where that is known.

    The memory can be written to: arrays are views of it, and a caller may do with them what he
    likes.
    """

    def __init__(self, call: Call[Any], response: httpx2.Response) -> None:
        self._response = response
        self.encoded = "content-encoding" in response.headers
        """Whether the parts must be decoded first."""

        self._sink = call.sink() if call.sink and response.status_code == OK else None
        known = response.headers.get("content-length", "")
        self._body = bytearray(int(known) if known.isdecimal() and not self.encoded else 0)
        self._size = 0

    def add(self, part: Buffer) -> None:
        """Take the next part."""
        if self._sink is not None:
            self._sink(part)
            return
        end = self._size + len(part)
        if end > len(self._body):
            del self._body[self._size :]
            self._body += part
        else:
            self._body[self._size : end] = part
        self._size = end

    def reply(self) -> Reply:
        """Return what came."""
        body = b"" if self._sink is not None else memoryview(self._body)[: self._size]
        return Reply(
            self._response.status_code,
            {name.lower(): value for name, value in self._response.headers.items()},
            body,
        )


def failed(error: httpx2.HTTPError | httpx2.InvalidURL, url: str) -> Failed:
    """Return what a failure of the transport means.

    Raises:
        InvalidConfiguration: the URL is none that can be reached.
    """
    if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        raise InvalidConfiguration(f"{url}: {error}") from error
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, httpx2.TimeoutException):
        unsent = isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout)
        # A service that is silent may still be computing: asking again would double its work.
        why = "no connection in time" if unsent else "no answer in time: raise timeout_s"
        return Failed(TimedOut(f"{url}: {why}"), again=unsent, arrived=not unsent)
    unsent = isinstance(error, httpx2.ConnectError)
    again = unsent or isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError)
    return Failed(NoAnswer(f"nobody answers at {url}: {said}"), again=again, arrived=not unsent)
