"""Where each act came from, and a way to the searches, which show results of many batches."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SEARCHES = sa.text("action = 'results.searched'")


def upgrade() -> None:
    op.add_column("audit", sa.Column("origin", sa.Text(), nullable=True))
    op.create_index(
        "ix_audit_searches", "audit", ["seq"], unique=False, sqlite_where=SEARCHES, postgresql_where=SEARCHES
    )


def downgrade() -> None:
    op.drop_index("ix_audit_searches", table_name="audit", sqlite_where=SEARCHES, postgresql_where=SEARCHES)
    op.drop_column("audit", "origin")
