"""Everything that the service raises by itself; what the core raises is in :mod:`xentcore`.

    ServiceError
    ├── Malformed                the bytes are not what they claim to be
    ├── NotOffered               a part of a protocol, or of a model, that is not there
    ├── NoGraph                  a variant that is not to be had as an ONNX model
    ├── TooLarge                 more bytes, rows, classes or elements than allowed
    ├── UnsupportedMediaType     a media type or encoding that is not spoken here
    ├── InvalidDocument          understood, but not meaningful; names every offending part
    │   ├── UnknownSchema        a label schema that was never declared
    │   ├── SchemaMismatch       a label schema with other classes than the batch has
    │   └── TooOld               an event time before what is kept
    ├── SumsOverflow             sums that are no finite numbers: they are not stored
    ├── BatchConflict            recorded before, with another body
    ├── Outdated                 what a correction was computed from was corrected meanwhile
    ├── UnknownBatch             never recorded, or too long ago
    ├── LabelsTooLate            the batch is there, its logits are not, or no longer
    ├── UnknownModel             no model, or version of one, has this name
    ├── ModelConflict            the version is there, with other bytes
    ├── BrokenModel              a file that is no model, or none that is taken
    ├── ModelFailed              a model that was taken does not run on these features
    ├── BodyTimeout              the body was not complete within its deadline
    ├── ClientDisconnected       the client went away; nobody is left to answer
    ├── Unauthenticated          no key, or a wrong one
    ├── Forbidden                a key without the scope
    ├── UnknownProject           nothing was recorded under that name
    ├── UnknownAlert             the project has no alert of that name
    ├── AlertExists              the project has one of that name already
    ├── UnknownAnnotation        no note of that id
    ├── QueueFull                no place is left; says when to come again
    └── Unavailable              starting, draining, or out of time
        └── HistoryUnavailable   nothing can be recorded or asked for now; says when to come again

None of them knows a status code: :mod:`service.problems` holds that table.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One offending part of a request: its JSON pointer (RFC 6901) and what is wrong with it."""

    pointer: str
    message: str


class ServiceError(Exception):
    """Root of the tree. ``faults`` name the offending parts of the request."""

    def __init__(self, message: str, *, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class Malformed(ServiceError):
    """The bytes are not what they claim to be."""


class NotOffered(ServiceError):
    """A part of a protocol, or of a model, that is not there; the message lists what is."""


class NoGraph(ServiceError):
    """A variant that is not to be had as an ONNX model; the message says why."""


class TooLarge(ServiceError):
    """More bytes, rows, classes or elements than allowed."""


class UnsupportedMediaType(ServiceError):
    """A media type or encoding that is not spoken here; the message lists those that are."""


class InvalidDocument(ServiceError):
    """Understood, but not meaningful."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        first = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"{first.pointer or 'the document'}: {first.message}{more}", faults=faults)


class UnknownSchema(InvalidDocument):
    """A label schema is named that was never declared."""


class SchemaMismatch(InvalidDocument):
    """A label schema has other classes than the batch."""


class TooOld(InvalidDocument):
    """The event time lies before what is kept."""


class SumsOverflow(ServiceError):
    """The sums are no finite numbers. They are not stored."""


class BatchConflict(ServiceError):
    """The batch was recorded before, with another body, other tags or another label schema."""


class Outdated(ServiceError):
    """The batch was corrected after what this correction was computed from had been read."""


class UnknownBatch(ServiceError):
    """The batch was never recorded, or too long ago."""


class LabelsTooLate(ServiceError):
    """The batch is there, but its logits are not, or no longer: labels cannot be joined."""


class UnknownModel(ServiceError):
    """No model, or no version of one, has this name; the message lists those that are there."""


class ModelConflict(ServiceError):
    """The version of the model is there, with other bytes. Versions do not change."""


class BrokenModel(ServiceError):
    """A file is no model, or none that is taken; the message says what to do instead."""


class ModelFailed(ServiceError):
    """A model that was taken does not run on these features."""


class BodyTimeout(ServiceError):
    """The body was not complete within its deadline."""


class ClientDisconnected(ServiceError):
    """The client went away; nobody is left to answer."""


class Unauthenticated(ServiceError):
    """No key, or a wrong one."""


class Forbidden(ServiceError):
    """A key without the scope."""


class UnknownProject(ServiceError):
    """Nothing was ever recorded under that name."""


class UnknownAlert(ServiceError):
    """The project has no alert of that name."""


class AlertExists(ServiceError):
    """The project has an alert of that name already."""


class UnknownAnnotation(ServiceError):
    """The project has no note of that id."""


class QueueFull(ServiceError):
    """No place is left. ``retry_after_s`` estimates when there will be one."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(ServiceError):
    """Starting, draining, or out of time."""


class HistoryUnavailable(Unavailable):
    """Nothing can be recorded or asked for now. ``retry_after_s`` says when to come again."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def invalid(pointer: str, message: str) -> InvalidDocument:
    """Return the error of one offending part."""
    return InvalidDocument([Fault(pointer, message)])


def escape(key: str) -> str:
    """Return a key as one token of a JSON pointer, cut where it is absurdly long."""
    return key[:64].replace("~", "~0").replace("/", "~1")
