"""A result says which version of the decoder read its image; of the older ones nobody knows."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("results", sa.Column("decoding", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("results", "decoding")
