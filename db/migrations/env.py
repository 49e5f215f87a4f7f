"""Alembic's entry: runs on the connection that db.migrate hands over."""

from alembic import context

from db import chains, heartbeats, idempotency, keys, labels, retention, sign_ins, slots, tenants  # noqa: F401 - their tables
from db.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
with context.begin_transaction():
    context.run_migrations()
