"""Retraining runs, one at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
CHECKS = {
    "state_known": "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')",
    "unfinished_is_open": "(state IN ('queued', 'running')) = (unfinished IS NOT NULL)",
    "lease_while_running": "(state = 'running') = (lease_token IS NOT NULL)",
    "lease_ends": "(lease_token IS NULL) = (lease_until IS NULL)",
    "failure_has_problem": "(state = 'failed') = (problem IS NOT NULL)",
    "success_has_version": "(state = 'succeeded') = (version IS NOT NULL)",
}


def upgrade() -> None:
    op.create_table(
        "retraining_runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("unfinished", sa.Boolean(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("cancelling", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("new_images", sa.Integer(), nullable=True),
        sa.Column("left_out", sa.Integer(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("epochs", sa.Integer(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("passed", sa.Boolean(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_until", MOMENT, nullable=True),
        sa.Column("asked_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        *(sa.CheckConstraint(text, name=op.f(f"ck_retraining_runs_{name}")) for name, text in CHECKS.items()),
        sa.ForeignKeyConstraint(["version"], ["models.version"], name=op.f("fk_retraining_runs_version")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retraining_runs")),
        sa.UniqueConstraint("unfinished", name=op.f("uq_retraining_runs_unfinished")),
    )


def downgrade() -> None:
    op.drop_table("retraining_runs")
