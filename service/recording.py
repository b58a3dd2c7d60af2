"""What of an answered request is to be recorded, and as which series."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from service.errors import Fault, InvalidDocument
from service.history import times
from service.history.replicates import Hashes, Units, hash_ids
from service.history.summing import Source, sums_of
from service.history.sums import Sums
from service.history.track import SchemaRef, SeriesKey
from service.schema.document import Document
from service.schema.track import LabelSchema, Track
from xentcore import Cancelled, Evaluation, Record, Recorded

# Fields of the document, beside the variant's settings, that say what the sums are of.
CONVENTIONS: Final = ("nonfinite", "input", "probability_floor")


@dataclass(frozen=True, slots=True)
class Names:
    """What rows are called.

    Attributes:
        listed: by their numbers; of those rows at least that may be listed.
        hashes: of all rows, (rows,); ``None`` where they are not needed.
    """

    listed: Sequence[str | int] | Mapping[int, str | int]
    hashes: Hashes | None


@dataclass(frozen=True, slots=True)
class Draft:
    """The sums of one result, and the series that they belong to."""

    key: SeriesKey
    classes: int
    sums: Sums


@dataclass(frozen=True, slots=True)
class Recording:
    """What is to be recorded of a request: a draft for each of its results."""

    track: Track
    drafts: Sequence[Draft]


def record_asked(document: Document, *, named: bool) -> Record | None:
    """Return what an evaluation is to record; ``named``: rows come with their names."""
    track = document.track
    if track is None:
        return None
    ids = (track.sample_ids, track.cluster_ids, document.sample_ids)
    return "rows" if named or any(each is not None for each in ids) else "sums"


def check_track(document: Document, *, classes: int, named: bool) -> None:
    """Check what is tracked against the batch and the rest of the document.

    Args:
        document: of the request.
        classes: that the logits have.
        named: whether rows come with their names.

    Raises:
        InvalidDocument: naming every offending part.
    """
    track = document.track
    if track is None:
        return
    faults = []
    if document.nonfinite == "propagate":
        message = "sums that are kept hold no NaN: exclude or reject rows that are not finite"
        faults.append(Fault("/nonfinite", message))
    if track.pending and document.ignore_index is None:
        message = "marks the rows that wait for labels: leave it out for -100"
        faults.append(Fault("/ignore_index", message))
    if track.expires_at is not None and not (track.pending and track.expires_at > times.now()):
        message = "is of logits that wait for labels (pending), and in the future"
        faults.append(Fault("/track/expires_at", message))
    schema = track.label_schema
    if isinstance(schema, LabelSchema) and len(schema.classes) != classes:
        faults.append(Fault("/track/label_schema/classes", _count(schema.classes, classes)))
    if track.sample_ids is not None and named:
        faults.append(Fault("/track/sample_ids", "rows are named by the column sample_id"))
    if faults:
        raise InvalidDocument(faults)


def check_ids(document: Document, rows: int) -> None:
    """Check that what is tracked names as many rows as there are.

    Raises:
        InvalidDocument: naming every offending part.
    """
    track = document.track
    if track is None:
        return
    faults = [
        Fault(f"/track/{field}", f"has {len(ids)} entries for {rows} rows: give one each")
        for field, ids in (("sample_ids", track.sample_ids), ("cluster_ids", track.cluster_ids))
        if ids is not None and len(ids) != rows
    ]
    if faults:
        raise InvalidDocument(faults)


def _count(names: Sequence[str], classes: int) -> str:
    return f"has {len(names)} entries for {classes} classes: give one each"


def recording_of(
    evaluation: Evaluation,
    document: Document,
    names: Names | None = None,
    *,
    cancelled: Callable[[], bool],
) -> Recording:
    """Return what is to be recorded of an evaluation that has seen all rows.

    Args:
        evaluation: made to record.
        document: of the request, which is tracked.
        names: of the rows, where they came with them.
        cancelled: asked now and then; once it returns true, ``Cancelled`` is raised.

    Raises:
        Cancelled: ``cancelled`` returned true.
    """
    track = document.track
    if track is None:
        raise AssertionError("asked of tracked requests only")

    def proceed() -> None:
        if cancelled():
            raise Cancelled("given up after the evaluation")

    names = names or _names(document)
    clusters = None if track.cluster_ids is None else hash_ids(track.cluster_ids)
    units = Units.of(None if names is None else names.hashes, clusters)
    source = Source(
        track.batch_id, track.event_time, None if names is None else names.listed, units
    )
    recorded = evaluation.recorded()
    drafts = [
        Draft(_key(each, document, track), each.classes, sums)
        for each, sums in zip(recorded, sums_of(recorded, source, proceed=proceed), strict=True)
    ]
    return Recording(track, drafts)


def names_of(document: Document) -> Sequence[str | int] | None:
    """Return what the document of a tracked request calls its rows."""
    track = document.track
    return document.sample_ids if track is None or track.sample_ids is None else track.sample_ids


def _names(document: Document) -> Names | None:
    ids = names_of(document)
    return None if ids is None else Names(ids, hash_ids(ids))


def _key(recorded: Recorded, document: Document, track: Track) -> SeriesKey:
    return SeriesKey(
        project=track.project,
        model=track.model,
        model_version=track.model_version,
        variant=recorded.variant,
        family=recorded.family,
        settings={
            **asdict(recorded.settings),
            "normaliser": recorded.reduction.normaliser,
            **{name: getattr(document, name) for name in CONVENTIONS},
        },
        label_schema=_schema(track.label_schema),
        tags=dict(track.tags),
    )


def _schema(schema: LabelSchema | str) -> SchemaRef:
    if isinstance(schema, LabelSchema):
        return SchemaRef(schema.name, tuple(schema.classes))
    return SchemaRef(schema, None)
