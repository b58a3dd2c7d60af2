"""What is said of a batch that the history shall remember."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from datetime import UTC, datetime
from typing import Any

from xent.arrays import plain
from xent.errors import InvalidBatch

Time = datetime | str
"""With an offset from UTC; as text in RFC 3339."""


@dataclass(frozen=True, slots=True)
class Track:
    """Has the history remember a batch.

    Attributes:
        project: what it belongs to.
        model: the model's name; ``None`` where the service runs the model, and knows.
        model_version: and its version; likewise.
        label_schema: the name of the set of classes.
        classes: its classes; ``None`` where it was declared before.
        batch_id: names the batch, so that the same one sent twice counts once; ``None`` makes one
            up for each call, which then is no new batch when the call is tried again.
        event_time: when the rows happened; ``None`` is now.
        tags: at most 16 texts by name, which series are told apart by.
        sample_ids: a name or number per row, to join labels that come later.
        cluster_ids: a name or number per row; rows of a cluster are not independent.
        pending: labels will come later, by :meth:`~xent.Client.labels`.
        expires_at: until when they are waited for.
    """

    project: str
    model: str | None
    model_version: str | None
    label_schema: str
    classes: Sequence[str] | None = None
    batch_id: str | None = None
    event_time: Time | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    sample_ids: Sequence[str | int] | None = None
    cluster_ids: Sequence[str | int] | None = None
    pending: bool = False
    expires_at: Time | None = None

    def of(self, **changes: Any) -> "Track":  # noqa: ANN401  (the attributes' values)
        """Return the same with other values: ``track.of(batch_id="7", event_time=time)``."""
        return replaced(self, **changes)

    def document(self) -> dict[str, object]:
        """Return the ``track`` member of a request.

        Raises:
            InvalidBatch: a time without an offset.
        """
        schema: object = self.label_schema
        if self.classes is not None:
            schema = {"name": self.label_schema, "classes": plain(self.classes)}
        found: dict[str, object] = {
            "project": self.project,
            "batch_id": self.batch_id or uuid.uuid4().hex,
            "event_time": rfc3339(self.event_time or datetime.now(UTC), "event_time"),
            "label_schema": schema,
        }
        given: dict[str, object] = {
            "model": self.model,
            "model_version": self.model_version,
            "tags": dict(self.tags) or None,
            "pending": self.pending or None,
            "expires_at": None
            if self.expires_at is None
            else rfc3339(self.expires_at, "expires_at"),
            "sample_ids": plain(self.sample_ids),
            "cluster_ids": plain(self.cluster_ids),
        }
        found |= {name: value for name, value in given.items() if value is not None}
        return found


def rfc3339(time: Time, name: str) -> str:
    """Return a time as the service reads it.

    Raises:
        InvalidBatch: it has no offset, so that nobody knows which moment it is.
    """
    if isinstance(time, str):
        return time
    if time.utcoffset() is None:
        raise InvalidBatch(f"{name} has no time zone: datetime.now(UTC), say")
    return time.isoformat()
