"""Results that stand in place of others."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

AMENDING = sa.text("amends IS NOT NULL")


def upgrade() -> None:
    # In SQL, since Alembic would make SQLite's table anew for the reference; both databases know these words.
    op.execute("ALTER TABLE results ADD COLUMN amends TEXT CONSTRAINT fk_results_amends REFERENCES results (id)")
    op.create_index(
        "ix_results_amends", "results", ["amends"], unique=True, sqlite_where=AMENDING, postgresql_where=AMENDING
    )


def downgrade() -> None:
    op.drop_index("ix_results_amends", table_name="results", sqlite_where=AMENDING, postgresql_where=AMENDING)
    op.execute("DELETE FROM results WHERE amends IS NOT NULL")  # the tables before this had one answer for an image
    op.drop_column("results", "amends")
