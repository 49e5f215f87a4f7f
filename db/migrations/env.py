"""Alembic's entry: runs on the connection that db.migrate hands over."""

from alembic import context

from db import (  # noqa: F401 - their tables
    chains,
    drift,
    heartbeats,
    idempotency,
    keys,
    labels,
    operating_points,
    promotions,
    reclassification,
    registry,
    retention,
    retraining,
    shadows,
    sign_ins,
    slots,
    tenants,
    webhooks,
)
from db.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
with context.begin_transaction():
    context.run_migrations()
