"""Drafts: images that were received but not yet submitted, batches without a model yet; and answers kept for their keys."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
ANSWER: dict[str, sa.types.TypeEngine[Any]] = {"status": sa.Integer(), "location": sa.Text(), "body": sa.Text()}
STATES = "'queued', 'leased', 'classified', 'rejected', 'quarantined', 'cancelled', 'expired'"
NEVER_SUBMITTED = "state IN ('receiving', 'cancelling', 'cancelled', 'expired')"

BATCHES = {"not_empty": "total >= 1"}
NEW_BATCHES = {
    "not_empty": f"total >= 1 OR {NEVER_SUBMITTED}",
    "model_pinned": f"model_version IS NOT NULL OR {NEVER_SUBMITTED}",
}
IMAGES = {"state_known": f"state IN ({STATES})"}
NEW_IMAGES = {"state_known": f"state IN ('received', {STATES})"}


def upgrade() -> None:
    with op.batch_alter_table("batches") as batches:
        batches.add_column(sa.Column("announced", sa.Integer(), nullable=True))
        batches.alter_column("model_version", existing_type=sa.Text(), nullable=True)
        _change(batches, "batches", BATCHES, NEW_BATCHES)
    with op.batch_alter_table("images") as images:
        _change(images, "images", IMAGES, NEW_IMAGES)
    with op.batch_alter_table("idempotency_keys") as keys:
        keys.alter_column("batch_id", existing_type=sa.Text(), nullable=True)
        for name, kind in ANSWER.items():
            keys.add_column(sa.Column(name, kind, nullable=True))
        keys.add_column(sa.Column("at", MOMENT, nullable=False, server_default=sa.func.current_timestamp()))
    with op.batch_alter_table("idempotency_keys") as keys:
        keys.alter_column("at", existing_type=MOMENT, server_default=None)


def downgrade() -> None:
    op.execute("DELETE FROM idempotency_keys WHERE batch_id IS NULL")
    with op.batch_alter_table("idempotency_keys") as keys:
        for name in (*ANSWER, "at"):
            keys.drop_column(name)
        keys.alter_column("batch_id", existing_type=sa.Text(), nullable=False)
    # The tables before this had no place for what was never submitted; the audit remembers it.
    for table in ("images", "idempotency_keys"):
        op.execute(f"DELETE FROM {table} WHERE batch_id IN (SELECT id FROM batches WHERE model_version IS NULL)")  # noqa: S608
    op.execute("DELETE FROM batches WHERE model_version IS NULL")
    with op.batch_alter_table("images") as images:
        _change(images, "images", NEW_IMAGES, IMAGES)
    with op.batch_alter_table("batches") as batches:
        _change(batches, "batches", NEW_BATCHES, BATCHES)
        batches.alter_column("model_version", existing_type=sa.Text(), nullable=False)
        batches.drop_column("announced")


def _change(batch: BatchOperations, table: str, before: dict[str, str], after: dict[str, str]) -> None:
    for name in before:
        batch.drop_constraint(op.f(f"ck_{table}_{name}"), type_="check")
    for name, text in after.items():
        batch.create_check_constraint(op.f(f"ck_{table}_{name}"), text)
