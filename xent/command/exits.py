"""How the command ends: one line for a person, one number for a script."""

from typing import Final

from xent.errors import (
    InvalidBatch,
    InvalidConfiguration,
    Missing,
    NoAnswer,
    QueueFull,
    ServiceFailed,
    Unavailable,
    Unreadable,
    XentError,
)

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
AWAY: Final = 3
REFUSED: Final = 4
ABOVE: Final = 5
INTERRUPTED: Final = 130

EPILOG: Final = (
    "Exit codes: 0 answered; 1 something is wrong, doctor says so too; 2 flags, files or packages "
    "that cannot be used; 3 nobody answers, or not now: try again later; 4 the service refuses, "
    "and says why; 5 the loss is above --fail-above, or an alert fires and --fail-firing says so; "
    "130 interrupted."
)


def code_of(error: XentError) -> int:
    """Return the exit code of an error."""
    if isinstance(error, InvalidBatch | InvalidConfiguration | Missing):
        return USAGE
    if isinstance(error, NoAnswer | QueueFull | Unavailable | ServiceFailed):
        return AWAY
    return FAILED if isinstance(error, Unreadable) else REFUSED


def line_of(error: BaseException) -> str:
    """Return an error as one line."""
    request = getattr(error, "request_id", "")
    said = " ".join(str(error).split()) or type(error).__name__
    return f"{said} [request {request}]" if request else said
