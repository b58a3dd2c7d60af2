"""What is kept of the body of a tracked batch: its digest and, where labels come later, its bytes.

The body of a batch that is not tracked is not looked at.
"""

from collections.abc import Mapping

import xxhash

from service.errors import TooLarge
from service.wire.buffer import Buffer
from service.wire.payload import Body, awaits_labels

Raw = Mapping[str, object]


def digest(body: Body) -> bytes:
    """Return the digest of a whole body, 16 bytes."""
    return xxhash.xxh3_128_digest(body.data)


def waiting(body: Body, document: Raw, *, limit: int) -> bytes | None:
    """Return a body that is to wait for labels; ``None`` where it is not.

    Raises:
        TooLarge: more than ``limit`` bytes.
    """
    if not awaits_labels(document):
        return None
    check_size(len(body), limit)
    return body.tobytes()


def check_size(size: int, limit: int) -> None:
    """Check the size of a body that is to wait for labels.

    Raises:
        TooLarge: more than ``limit`` bytes.
    """
    if size > limit:
        raise TooLarge(
            f"logits that wait for labels are kept up to {limit} bytes a request: send fewer rows, "
            "or send them again with their labels"
        )


class Keeping:
    """Keeps what has to be of a body that comes in pieces.

    Args:
        limit: most bytes that wait for labels.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._hash = xxhash.xxh3_128()
        self._body: Buffer | None = None

    def add(self, document: Raw | None, data: Body) -> None:
        """Take the next piece of a body whose document, if it has come, says what is kept.

        Raises:
            TooLarge: more bytes than may wait for labels.
        """
        if document is not None and document.get("track") is None:
            self._body = None
            return
        self._hash.update(data.data)
        if document is not None and not awaits_labels(document):
            self._body = None
            return
        size = len(data) + (0 if self._body is None else self._body.size)
        if document is not None:
            check_size(size, self._limit)
        if self._body is None:
            self._body = Buffer(limit=1 << 62)
        self._body.append(data.data)

    @property
    def digest(self) -> bytes:
        """The digest of a tracked body, 16 bytes."""
        return self._hash.digest()

    @property
    def body(self) -> bytes | None:
        """The body, if it is to wait for labels."""
        return None if self._body is None else self._body.body().tobytes()
