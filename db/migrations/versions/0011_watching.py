"""What comes in, counted by day, and what challengers would have said."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "input_counts",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("feature", sa.Text(), nullable=False),
        sa.Column("bin", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["models.version"], name=op.f("fk_input_counts_version")),
        sa.PrimaryKeyConstraint("day", "version", "feature", "bin", name=op.f("pk_input_counts")),
    )
    op.create_table(
        "shadow_reports",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("unreadable", sa.Integer(), nullable=False),
        sa.Column("flips", sa.JSON(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["version"], ["models.version"], name=op.f("fk_shadow_reports_version")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadow_reports")),
    )
    op.create_index("ix_shadow_reports_version", "shadow_reports", ["version"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_shadow_reports_version", table_name="shadow_reports")
    op.drop_table("shadow_reports")
    op.drop_table("input_counts")
