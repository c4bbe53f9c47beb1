"""Alembic runs this. The connection comes from `database.migrate`, inside its transaction and behind its lock."""

from alembic import context

from service.queue.database import VERSION_TABLE
from service.queue.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
