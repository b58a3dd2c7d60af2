"""The tables. What changes here changes in ``migrations`` too; a test compares the two."""

from hashlib import blake2b
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from service.history.sums import ARRAYS, COUNTS, SCALARS

METADATA: Final = MetaData()

_KEY = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up INTEGER keys only


def _key() -> Column[int]:
    return Column("id", _KEY, primary_key=True, autoincrement=True)


def _tags_hash(context: Any) -> str:  # noqa: ANN401  (SQLAlchemy's)
    tags: str = context.get_current_parameters()["tags"]
    return blake2b(tags.encode(), digest_size=16).hexdigest()


def _sums() -> list[Column[object]]:
    """Return the columns of :class:`service.history.sums.Sums`; large ones last, to be skipped."""
    scalars: list[Column[object]] = [
        Column(name, BigInteger, nullable=False)
        if name in COUNTS
        else Column(name, Float(53), nullable=name in ("loss_min", "loss_max"))
        for name in SCALARS
    ]
    arrays: list[Column[object]] = [
        Column(name, LargeBinary, nullable=False) for name in (*ARRAYS, "hardest")
    ]
    return scalars + arrays


# `revision` grows by one with every transaction that changes what can be asked of the project.
project: Final = Table(
    "project",
    METADATA,
    _key(),
    Column("name", Text, nullable=False, unique=True),
    Column("revision", BigInteger, nullable=False),
)

# The classes that labels mean. `version` counts the declarations of a name with other classes: of
# those, one without classes means the last. No answer tells it, for it depends on their order.
label_schema: Final = Table(
    "label_schema",
    METADATA,
    _key(),
    Column("project_id", ForeignKey("project.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", Text, nullable=False),  # of the class names
    Column("classes", Text, nullable=False),  # a JSON list of names
    UniqueConstraint("project_id", "name", "version"),
)

series: Final = Table(
    "series",
    METADATA,
    _key(),
    Column("name", Text, nullable=False),  # see :func:`service.history.track.series_name`
    Column("project_id", ForeignKey("project.id"), nullable=False),
    Column("model", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("settings_hash", Text, nullable=False),
    Column("settings", Text, nullable=False),  # JSON: the variant's, and the conventions
    Column("label_schema_id", ForeignKey("label_schema.id"), nullable=False),
    Column("tags", Text, nullable=False),  # a JSON object, keys ascending
    # PostgreSQL indexes no more than 2.7 kB of a row: tags may be longer.
    Column("tags_hash", Text, nullable=False, default=_tags_hash),
    UniqueConstraint(
        "project_id",
        "model",
        "model_version",
        "variant",
        "settings_hash",
        "label_schema_id",
        "tags_hash",
        name="series_is_one",
    ),
    Index("series_by_name", "name", unique=True),
)

# One evaluation. `identity` says which (see :mod:`service.history.track`), `digest` with what.
batch: Final = Table(
    "batch",
    METADATA,
    _key(),
    Column("series_id", ForeignKey("series.id"), nullable=False),
    Column("batch_id", Text, nullable=False),
    Column("identity", LargeBinary(16), nullable=False, unique=True),
    Column("digest", LargeBinary(16), nullable=False),
    Column("event_time", BigInteger, nullable=False),  # microseconds since 1970, UTC
    Column("received", BigInteger, nullable=False),  # the same
    Column("revision", BigInteger, nullable=False),  # 1, and one more for each correction
    Column("pending", Boolean, nullable=False),  # some rows still wait for their labels
    *_sums(),
    Index("batch_by_time", "series_id", "event_time", "batch_id"),
)

# Logits that wait for labels: the request as it came, and the labels that came since.
pending: Final = Table(
    "pending",
    METADATA,
    Column("batch_key", ForeignKey("batch.id"), primary_key=True),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("path", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("labels", LargeBinary),  # NULL before any came
)

# A cache: the batches of a series in a minute, an hour, a day. `start` is floored to `length`.
rollup: Final = Table(
    "rollup",
    METADATA,
    Column("series_id", ForeignKey("series.id"), primary_key=True),
    Column("length", BigInteger, primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("revision", BigInteger, nullable=False),  # how many batches and corrections are in it
    Column("pending", Boolean, nullable=False),
    *_sums(),
)

# Minutes whose rollups are not what their batches say.
dirty: Final = Table(
    "dirty",
    METADATA,
    Column("series_id", ForeignKey("series.id"), primary_key=True),
    Column("start", BigInteger, primary_key=True),
)

# What a person or a rule says about a moment.
annotation: Final = Table(
    "annotation",
    METADATA,
    _key(),
    Column("project_id", ForeignKey("project.id"), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("series_id", ForeignKey("series.id")),
    Index("annotation_by_time", "project_id", "time"),
)

alert: Final = Table(
    "alert",
    METADATA,
    _key(),
    Column("project_id", ForeignKey("project.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("rule", Text, nullable=False),  # JSON, as it was asked for
    Column("created", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # ok | firing | no_data
    Column("since", BigInteger, nullable=False),  # when it came into that state
    Column("detail", Text, nullable=False),  # JSON: what the rule last saw
    UniqueConstraint("project_id", "name"),
)

# Messages of alerts that are still to be delivered.
delivery: Final = Table(
    "delivery",
    METADATA,
    _key(),
    Column("alert_id", ForeignKey("alert.id"), nullable=False),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", BigInteger, nullable=False, index=True),
)
