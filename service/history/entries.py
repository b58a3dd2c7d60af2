"""What is handed over to be recorded or corrected, and what comes back."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from service.history.sums import Sums
from service.history.track import SeriesKey, identity


@dataclass(frozen=True, slots=True)
class Kept:
    """A request whose labels come later.

    Attributes:
        expires_at: microseconds since 1970; it is not kept longer.
        path, media_type, body: as they came, the body decompressed.
    """

    expires_at: int
    path: str
    media_type: str
    body: bytes


@dataclass(frozen=True)
class Entry:
    """A batch to record.

    Attributes:
        key: the series.
        batch_id: its name within that.
        event_time: when its rows were seen, microseconds since 1970.
        digest: of the request's decompressed body, 16 bytes: what tells a batch that is sent again
            from another one of the same name.
        sums: of its rows.
        kept: the request, where rows still wait for their labels.
        classes: how many the batch has; ``None`` where no row told.
    """

    key: SeriesKey
    batch_id: str
    event_time: int
    digest: bytes
    sums: Sums
    kept: Kept | None = None
    classes: int | None = None

    @cached_property
    def identity(self) -> bytes:
        """What is the same for a batch that is sent again, 16 bytes."""
        return identity(self.key, self.batch_id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an entry: stored now, or found as it had been stored before.

    Attributes:
        series: the name of its series.
        revision, pending: of the batch.
    """

    status: Literal["created", "replayed"]
    series: str
    revision: int
    pending: bool


@dataclass(frozen=True, slots=True)
class KeptBatch:
    """A batch whose logits are kept.

    Attributes:
        batch_key: names it in a :class:`Correction`.
        series: the name of its series.
        batch_id, variant, settings_hash, event_time: what it is.
        classes: what its labels mean.
        revision: 1, and one more for each correction.
        pending: some rows wait for their labels.
        path, media_type, body: the request, as it came.
        labels: those that came since, as the last correction wrote them.
    """

    batch_key: int
    series: str
    batch_id: str
    variant: str
    settings_hash: str
    event_time: int
    classes: tuple[str, ...]
    revision: int
    pending: bool
    path: str
    media_type: str
    body: bytes
    labels: bytes | None


@dataclass(frozen=True, slots=True)
class Correction:
    """What a batch is, now that labels came.

    Attributes:
        batch_key: which batch.
        sums: replace those that are stored.
        labels: all that came so far, in whatever form :class:`KeptBatch` shall return them.
        pending: some rows still wait.
        revision: of the batch that this was computed from; ``None``: corrected whatever it is.
    """

    batch_key: int
    sums: Sums
    labels: bytes
    pending: bool
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Corrected:
    """What became of a correction.

    Attributes:
        status: ``completed``: no row waits any more, some did; ``unchanged``: these labels were
            there already; else ``corrected``.
        series: the name of its series.
        revision, pending: of the batch, afterwards.
    """

    status: Literal["completed", "corrected", "unchanged"]
    series: str
    revision: int
    pending: bool
