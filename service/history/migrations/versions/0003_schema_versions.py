"""Rules name label schemas after their classes, in place of the numbers of their declarations."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# Spelled out, as is the version: what this migration makes does not change when the code does.
SCHEMAS = sa.text("SELECT project_id, name, version, digest FROM label_schema")
RULES = sa.text("SELECT id, project_id, rule FROM alert")
RENAMED = sa.text("UPDATE alert SET rule = :rule WHERE id = :key")


def upgrade() -> None:
    """Rename what rules select."""
    connection = op.get_bind()
    called = {
        (project, f"{name}@{version}"): f"{name}@{digest[:8]}"
        for project, name, version, digest in connection.execute(SCHEMAS)
    }
    for key, project, text in connection.execute(RULES).all():
        rule = json.loads(text)
        selection = rule["selection"]
        names = [called.get((project, name), name) for name in selection["label_schema"]]
        if names != selection["label_schema"]:
            selection["label_schema"] = names
            connection.execute(RENAMED, {"key": key, "rule": json.dumps(rule)})
