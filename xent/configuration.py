"""Where the service is, the key that opens it, how long to wait, and how often to try again."""

import os
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from xent.errors import InvalidConfiguration

URL: Final = "XENT_URL"
KEY: Final = "XENT_API_KEY"
USUAL_URL: Final = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Retries:
    """How often to try again when the service is busy or nobody answers.

    The wait before try n is drawn from 0 to ``base_s * 2**n``, at most ``longest_s``, so that
    clients that were refused together do not come back together. A ``Retry-After`` is waited for
    in full beforehand. One that is longer than ``longest_s`` is not waited for: the problem is
    raised.

    Attributes:
        attempts: tries in all; 1 never tries again.
        base_s: longest first wait.
        longest_s: longest wait.
    """

    attempts: int = 5
    base_s: float = 0.25
    longest_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base_s < 0 or self.longest_s < 0:
            raise InvalidConfiguration("retries: attempts are 1 or more, waits 0 or more")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a client knows about its service.

    Attributes:
        url: where it is, without a slash at the end.
        key: sent as ``Authorization: Bearer``; ``None`` for none.
        timeout_s: longest silence: connecting takes at most 5 s of it.
        retries: how often to try again.
    """

    url: str
    key: str | None = field(repr=False)
    timeout_s: float
    retries: Retries

    @classmethod
    def of(
        cls, url: str | None, key: str | None, timeout_s: float, retries: Retries | None
    ) -> "Configuration":
        """Return the configuration; what is ``None`` comes from the environment.

        Raises:
            InvalidConfiguration: no URL of HTTP, a key that no header can hold, no time.
        """
        found = url or os.environ.get(URL) or USUAL_URL
        parts = urlsplit(found)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidConfiguration(f"{found!r} is no URL: write http://host:port ({URL})")
        secret = key or os.environ.get(KEY) or None
        if secret is not None and not (secret.isascii() and secret.isprintable()):
            raise InvalidConfiguration(f"the key holds what no header can: check {KEY}")
        if not timeout_s > 0:
            raise InvalidConfiguration("timeout_s is above 0")
        return cls(found.rstrip("/"), secret, timeout_s, retries or Retries())
