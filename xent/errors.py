"""Everything that the client raises.

    XentError
    ├── InvalidBatch               what was given cannot be sent: nothing left this machine
    ├── InvalidConfiguration       the URL, the key or an option of the client is unusable
    ├── Missing                    a package that this needs is not installed; names it
    ├── NoAnswer                   nobody answered
    │   └── TimedOut               or not in time
    ├── Unreadable                 something answered that is not Xent
    └── Problem                    the service says why not (RFC 9457)
        ├── Malformed              400  the bytes are not what they claim to be
        ├── Unauthenticated        401  a valid key is needed
        ├── Forbidden              403  the key does not open this
        ├── NotFound               404  no such variant, project or path
        ├── BodyTimeout            408  the body came too slowly
        ├── Conflict               409  the batch was tracked before, with other content
        ├── TooLarge               413  more than is allowed
        ├── UnsupportedMediaType   415  the service does not read this format
        ├── Refused                422  understood, but not meaningful: label, setting or shape
        ├── QueueFull              429  no place is left in the queue
        ├── ServiceFailed          500  the service failed
        └── Unavailable            503  starting, draining, out of time or memory

A problem carries what the service sent: ``status``, ``type``, ``title``, ``detail``,
``request_id``, and ``faults``, each with the JSON pointer of the part of the request it is about.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


class XentError(Exception):
    """Root of the tree."""


class InvalidBatch(XentError, ValueError):
    """What was given cannot be sent. Nothing left this machine."""


class InvalidConfiguration(XentError, ValueError):
    """The URL, the key or an option of the client is unusable."""


class Missing(XentError, ImportError):
    """A package that this needs is not installed."""


class NoAnswer(XentError):
    """Nobody answered."""


class TimedOut(NoAnswer, TimeoutError):
    """Nobody answered in time."""


class Unreadable(XentError):
    """Something answered that is not Xent."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One offending part of a request.

    Attributes:
        pointer: JSON pointer (RFC 6901) into the request document, ``/labels`` say; "" the whole.
        message: the fact and the way out.
    """

    pointer: str
    message: str


class Problem(XentError):
    """The service says why it does not answer.

    Attributes:
        status: of HTTP.
        type: stable, for machines: ``/problems/label-invalid``.
        title: what kind of problem it is.
        detail: the fact and the way out.
        request_id: what the service's log calls this request; "" where unknown.
        faults: the offending parts.
        retry_after_s: when the service asked to come again; ``None`` where it did not.
    """

    def __init__(  # noqa: PLR0913  (what the document has, and the header)
        self,
        status: int,
        detail: str,
        *,
        type: str = "about:blank",  # noqa: A002  (RFC 9457's name)
        title: str = "",
        request_id: str = "",
        faults: tuple[Fault, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.type = type
        self.title = title
        self.detail = detail
        self.request_id = request_id
        self.faults = faults
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Return the detail, and what it does not say of the faults."""
        more = [
            f"{fault.pointer or 'the request'}: {fault.message}"
            for fault in self.faults
            if fault.message not in self.detail
        ]
        return "; ".join([self.detail, *more])

    @property
    def pointers(self) -> tuple[str, ...]:
        """The JSON pointers of the offending parts."""
        return tuple(fault.pointer for fault in self.faults)


class Malformed(Problem):
    """The bytes are not what they claim to be."""


class Unauthenticated(Problem):
    """A valid key is needed: ``Client(key=...)`` or ``XENT_API_KEY``."""


class Forbidden(Problem):
    """The key does not open this."""


class NotFound(Problem):
    """No such variant, project or path."""


class BodyTimeout(Problem):
    """The body came too slowly."""


class Conflict(Problem):
    """The batch was tracked before, with other content."""


class TooLarge(Problem):
    """More bytes, rows, classes or elements than the service allows."""


class UnsupportedMediaType(Problem):
    """The service does not read this format."""


class Refused(Problem):
    """Understood, but not meaningful: a label, a setting or a shape."""


class QueueFull(Problem):
    """No place is left in the queue."""


class ServiceFailed(Problem):
    """The service failed."""


class Unavailable(Problem):
    """Starting, draining, out of time or out of memory."""


PROBLEMS: Final[Mapping[int, type[Problem]]] = {
    400: Malformed,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    408: BodyTimeout,
    409: Conflict,
    413: TooLarge,
    415: UnsupportedMediaType,
    422: Refused,
    429: QueueFull,
    500: ServiceFailed,
    503: Unavailable,
}


def missing(package: str, purpose: str) -> Missing:
    """Return the error for a package that is not installed."""
    return Missing(f"{purpose} needs {package}: pip install '{package}'")
