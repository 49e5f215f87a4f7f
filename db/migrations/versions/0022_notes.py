"""A result says what was done to its image's pixels; of the older ones nobody knows."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("results", sa.Column("notes", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("results", "notes")
