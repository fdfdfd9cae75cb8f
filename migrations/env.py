"""Run migrations on the connection that `trellis.db.migrate` hands over: raw SQL, no model imports."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None, transaction_per_migration=True)

with context.begin_transaction():
    context.run_migrations()
