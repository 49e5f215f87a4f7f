"""When a batch's results were purged, and which results there were."""

import sqlalchemy as sa
from alembic import op

from db.tenancy import wall

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("results_purged_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "purged_results",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_purged_results")),
    )
    if op.get_bind().dialect.name == "postgresql":
        for statement in wall("purged_results"):
            op.execute(statement)


def downgrade() -> None:
    op.drop_table("purged_results")
    op.drop_column("batches", "results_purged_at")
