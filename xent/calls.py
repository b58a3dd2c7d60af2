"""Calls as values: what is sent, and how the answer is read. Nothing here talks to a network."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from xent import safetensors
from xent.bodies import Body
from xent.errors import PROBLEMS, Fault, Problem, Unreadable
from xent.safetensors import Buffer
from xent.tensors import Tensor

T = TypeVar("T")
JSON: Final = "application/json"
RESPONSE: Final = "response"
CLIENT_ERROR: Final = 400


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        headers: by lower-case name.
        body: as a whole; empty where it went to the call's sink.
    """

    status: int
    headers: Mapping[str, str]
    body: Buffer

    @property
    def media_type(self) -> str:
        """The body's."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> dict[str, Any]:
        """Return the body's JSON object.

        Raises:
            Unreadable: it is none.
        """
        try:
            found = json.loads(bytes(self.body))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Unreadable(f"status {self.status}, but no JSON object: is this Xent?")
        return found

    def document(self) -> dict[str, Any]:
        """Return the answer document, with tensors as leaves where they came as such.

        Raises:
            Unreadable: it is none.
        """
        if self.media_type != safetensors.MEDIA_TYPE:
            return self.json()
        contents = safetensors.read(self.body)
        try:
            document: dict[str, Any] = json.loads(contents.metadata[RESPONSE])
            for path, tensor in contents.tensors.items():
                _place(document, path, tensor)
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise Unreadable(f"the answer cannot be put together: {error!r}") from None
        return document

    def problem(self) -> Problem:
        """Return the error that a reply of status 400 or above is."""
        kind = PROBLEMS.get(self.status, Problem)
        try:
            document = self.json()
        except Unreadable:
            document = {}
        said = document.get("detail") or f"HTTP status {self.status}, and no word why"
        return kind(
            self.status,
            str(said),
            type=str(document.get("type", "about:blank")),
            title=str(document.get("title", "")),
            request_id=str(document.get("request_id", self.headers.get("x-request-id", ""))),
            faults=tuple(
                Fault(str(each.get("pointer", "")), str(each.get("message", "")))
                for each in document.get("errors", ())
            ),
            retry_after_s=_seconds(self.headers.get("retry-after")),
        )


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its reply is read.

    Attributes:
        path: below the URL of the service.
        read: makes an object of a reply of status 200.
        query: parameters; lists repeat them.
        body: ``None`` for none.
        accept: the media type that is hoped for.
        idempotent: whether a second time changes nothing, so that it may be tried again though
            the first may have arrived.
        remembered: whether a result is kept by its ETag, and asked for only if it changed.
        sink: opened for every reply of status 200, takes its body as it comes.
    """

    method: str
    path: str
    read: Callable[[Reply], T]
    query: Mapping[str, str | list[str]] = field(default_factory=dict)
    body: Body | None = None
    accept: str = JSON
    idempotent: bool = True
    remembered: bool = False
    sink: Callable[[], Callable[[Buffer], object]] | None = None


def _place(document: Any, path: str, tensor: Tensor) -> None:  # noqa: ANN401  (JSON)
    """Put a tensor where its dotted path says: ``results.0.gradient``."""
    first, _, rest = path.partition(".")
    # Lists hold objects only; the name of a column may hold dots.
    if isinstance(document, list):
        _place(document[int(first)], rest, tensor)
    elif rest and isinstance(document.get(first), dict | list):
        _place(document[first], rest, tensor)
    else:
        document[path] = tensor


def _seconds(text: str | None) -> float | None:
    """Return a ``Retry-After`` in seconds; one that is a date counts as none."""
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:
        return None
