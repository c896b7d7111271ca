"""Alembic's environment: runs the migrations on the connection that `database.migrate` passes."""

from alembic import context

from speechpipe.foundation.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
