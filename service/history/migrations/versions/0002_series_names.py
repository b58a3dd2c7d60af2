"""Series get names that follow from what they are, in place of the numbers of their arrival."""

import json
from hashlib import blake2b

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# Spelled out, as is the name: what this migration makes does not change when the code does.
NAMED = sa.text("UPDATE series SET name = :name WHERE id = :key")
SERIES = sa.text(
    "SELECT series.id, project.name, model, model_version, variant, settings_hash, "
    "label_schema.name, label_schema.digest, tags FROM series "
    "JOIN project ON project.id = series.project_id "
    "JOIN label_schema ON label_schema.id = series.label_schema_id"
)


def upgrade() -> None:
    """Name what is there."""
    # SQLite adds no column without a value; a constraint afterwards would copy the table, which
    # others refer to. An index makes names unique on both databases.
    name = sa.Column("name", sa.Text(), nullable=False, server_default="")
    op.add_column("series", name)
    connection = op.get_bind()
    for key, *parts in connection.execute(SERIES).all():
        connection.execute(NAMED, {"key": key, "name": _name(parts)})
    op.create_index("series_by_name", "series", ["name"], unique=True)


def _name(parts: list[str]) -> str:
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
    return blake2b(text.encode(), digest_size=8).hexdigest()
