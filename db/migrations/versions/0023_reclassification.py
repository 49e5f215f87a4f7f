"""Reclassification runs, one at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
CHECKS = {
    "state_known": "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')",
    "unfinished_is_open": "(state IN ('queued', 'running')) = (unfinished IS NOT NULL)",
    "lease_while_running": "(state = 'running') = (lease_token IS NOT NULL)",
    "lease_ends": "(lease_token IS NULL) = (lease_until IS NULL)",
    "failure_has_problem": "(state = 'failed') = (problem IS NOT NULL)",
    "versions_differ": "old_version <> new_version",
}


def upgrade() -> None:
    op.create_table(
        "reclassification_runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("unfinished", sa.Boolean(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("cancelling", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("old_version", sa.Text(), nullable=False),
        sa.Column("new_version", sa.Text(), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("after_result", sa.Text(), nullable=False),
        sa.Column("changes", sa.JSON(), nullable=False),
        sa.Column("missing", sa.JSON(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_until", MOMENT, nullable=True),
        sa.Column("asked_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        *(sa.CheckConstraint(text, name=op.f(f"ck_reclassification_runs_{name}")) for name, text in CHECKS.items()),
        sa.ForeignKeyConstraint(["old_version"], ["models.version"], name=op.f("fk_reclassification_runs_old_version")),
        sa.ForeignKeyConstraint(["new_version"], ["models.version"], name=op.f("fk_reclassification_runs_new_version")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reclassification_runs")),
        sa.UniqueConstraint("unfinished", name=op.f("uq_reclassification_runs_unfinished")),
    )


def downgrade() -> None:
    op.drop_table("reclassification_runs")
