"""What came in is counted for each hospital, and so is what a challenger looked at."""

import sqlalchemy as sa
from alembic import op

from db.tenancy import wall

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_NAME = "input_counts"


def upgrade() -> None:
    # The counts so far say not whose they are; a week later none of them would count.
    op.drop_table(_NAME)
    tenant = sa.Column("tenant", sa.Text(), sa.ForeignKey("tenants.id", name=f"fk_{_NAME}_tenant"), nullable=False)
    _create(tenant)
    if op.get_bind().dialect.name == "postgresql":
        for statement in wall(_NAME):
            op.execute(statement)
    op.add_column("shadow_reports", sa.Column("sites", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("shadow_reports", "sites")
    op.drop_table(_NAME)
    _create()


def _create(*whose: sa.Column[str]) -> None:
    op.create_table(
        _NAME,
        *whose,
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("feature", sa.Text(), nullable=False),
        sa.Column("bin", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["models.version"], name=op.f(f"fk_{_NAME}_version")),
        sa.PrimaryKeyConstraint(
            *(column.name for column in whose), "day", "version", "feature", "bin", name=op.f(f"pk_{_NAME}")
        ),
    )
