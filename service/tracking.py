"""From an answered request to its rows in the history, before the answer is sent."""

from collections.abc import Mapping

from service.errors import BatchConflict
from service.evaluated import Unrecorded
from service.history import times
from service.history.entries import Entry, Kept, Outcome
from service.history.recorder import Recorder
from service.metrics import Metrics
from service.schema.track import Track


class Tracking:
    """Records what was evaluated.

    Args:
        recorder: writes it.
        metrics: counts it.
        pending_s: how long logits wait for their labels where the request does not say.
    """

    def __init__(self, recorder: Recorder, *, metrics: Metrics, pending_s: float) -> None:
        self._recorder = recorder
        self._metrics = metrics
        self._pending_s = pending_s

    async def record(
        self, unrecorded: Unrecorded, *, path: str, media_type: str
    ) -> list[Mapping[str, object]]:
        """Record a batch; once this returns, it stays. Return what is told of each of its results.

        Args:
            unrecorded: the batch.
            path: where it was posted.
            media_type: what it was posted as.

        Raises:
            ServiceError: as :meth:`Recorder.record` does.
        """
        track = unrecorded.recording.track
        kept = None
        if unrecorded.body is not None:
            kept = Kept(self._expires_at(track), path, media_type, unrecorded.body)
        entries: dict[bytes, Entry] = {}
        names = []
        for draft in unrecorded.recording.drafts:
            entry = Entry(
                draft.key,
                track.batch_id,
                track.event_time,
                unrecorded.digest,
                draft.sums,
                kept,
                draft.classes or None,
            )
            # Two of a comparison may be the same variant with the same settings: one batch.
            names.append(entry.identity)
            entries[entry.identity] = entry
        try:
            outcomes = await self._recorder.record(list(entries.values()))
        except BatchConflict:
            self._metrics.tracked.labels("conflict").inc()
            raise
        for outcome in outcomes:
            self._metrics.tracked.labels(outcome.status).inc()
        marks = dict(zip(entries, map(_mark, outcomes), strict=True))
        return [marks[name] for name in names]

    def _expires_at(self, track: Track) -> int:
        if track.expires_at is not None:
            return track.expires_at
        return times.now() + int(self._pending_s * times.SECOND)


def _mark(outcome: Outcome) -> Mapping[str, object]:
    return {name: getattr(outcome, name) for name in Outcome.__slots__}
