"""What Alembic runs for every command: on the connection that is given, in its transaction."""

from alembic import context

from service.history.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
