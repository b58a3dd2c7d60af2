"""The history: projects, label schemas, series, batches, what waits, rollups, notes, alerts."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _whose()
    _what()
    _caches()
    _watching()


def _whose() -> None:
    op.create_table(
        "project",
        _key(),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "label_schema",
        _key(),
        _reference("project_id", "project.id"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("classes", sa.Text(), nullable=False),
        sa.UniqueConstraint("project_id", "name", "version"),
    )
    op.create_table(
        "series",
        _key(),
        _reference("project_id", "project.id"),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("settings_hash", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        _reference("label_schema_id", "label_schema.id"),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("tags_hash", sa.Text(), nullable=False),
        sa.UniqueConstraint(
            "project_id",
            "model",
            "model_version",
            "variant",
            "settings_hash",
            "label_schema_id",
            "tags_hash",
            name="series_is_one",
        ),
    )


def _what() -> None:
    op.create_table(
        "batch",
        _key(),
        _reference("series_id", "series.id"),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("identity", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("digest", sa.LargeBinary(16), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("pending", sa.Boolean(), nullable=False),
        *_sums(),
    )
    op.create_index("batch_by_time", "batch", ["series_id", "event_time", "batch_id"])
    op.create_table(
        "pending",
        _reference("batch_key", "batch.id", primary_key=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False, index=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("labels", sa.LargeBinary()),
    )


def _caches() -> None:
    op.create_table(
        "rollup",
        _reference("series_id", "series.id", primary_key=True),
        sa.Column("length", sa.BigInteger(), primary_key=True),
        sa.Column("start", sa.BigInteger(), primary_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("pending", sa.Boolean(), nullable=False),
        *_sums(),
    )
    op.create_table(
        "dirty",
        _reference("series_id", "series.id", primary_key=True),
        sa.Column("start", sa.BigInteger(), primary_key=True),
    )


def _watching() -> None:
    op.create_table(
        "annotation",
        _key(),
        _reference("project_id", "project.id"),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("series_id", KEY, sa.ForeignKey("series.id")),
    )
    op.create_index("annotation_by_time", "annotation", ["project_id", "time"])
    op.create_table(
        "alert",
        _key(),
        _reference("project_id", "project.id"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.UniqueConstraint("project_id", "name"),
    )
    op.create_table(
        "delivery",
        _key(),
        _reference("alert_id", "alert.id"),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False, index=True),
    )


def _key() -> sa.Column[int]:
    return sa.Column("id", KEY, primary_key=True, autoincrement=True)


def _reference(name: str, target: str, *, primary_key: bool = False) -> sa.Column[int]:
    return sa.Column(name, KEY, sa.ForeignKey(target), nullable=False, primary_key=primary_key)


def _sums() -> list[sa.Column[Any]]:
    # Spelled out: what this migration makes does not change when the code does.
    counts = "batches rows evaluated ignored nonfinite infinite decisions replicated"
    reals = (
        "loss_sum weight_sum loss_square_sum loss_weight_sum weight_square_sum prior_loss_sum "
        "prior_sum brier_sum brier_square_sum entropy_sum"
    )
    arrays = "classes histogram calibration replicates sketch hardest"
    return [
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in counts.split()),
        *(sa.Column(name, sa.Float(53), nullable=False) for name in reals.split()),
        *(sa.Column(name, sa.Float(53)) for name in ("loss_min", "loss_max")),
        *(sa.Column(name, sa.LargeBinary(), nullable=False) for name in arrays.split()),
    ]
