"""A way to the open batches that SQLite takes too: it uses no partial index for values that are bound."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

OPEN = sa.text("state IN ('processing', 'cancelling')")


def upgrade() -> None:
    op.drop_index("ix_batches_open", table_name="batches", sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("ix_batches_state_expires_at", "batches", ["state", "expires_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_batches_state_expires_at", table_name="batches")
    op.create_index(
        "ix_batches_open", "batches", ["expires_at"], unique=False, sqlite_where=OPEN, postgresql_where=OPEN
    )
