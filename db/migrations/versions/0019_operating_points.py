"""Operating points of model versions for single hospitals."""

import sqlalchemy as sa
from alembic import op

from db.clock import Moment
from db.tables import Identity
from db.tenancy import wall

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_NAME = "operating_points"


def upgrade() -> None:
    op.create_table(
        _NAME,
        sa.Column("id", Identity, nullable=False),
        sa.Column("tenant", sa.Text(), sa.ForeignKey("tenants.id", name=f"fk_{_NAME}_tenant"), nullable=False),
        sa.Column(
            "model_version",
            sa.Text(),
            sa.ForeignKey("models.version", name=f"fk_{_NAME}_model_version"),
            nullable=False,
        ),
        sa.Column("threshold", sa.Float(), nullable=True),
        sa.Column("band_low", sa.Float(), nullable=True),
        sa.Column("band_high", sa.Float(), nullable=True),
        sa.Column("chosen_on", sa.JSON(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{_NAME}"),
        sa.CheckConstraint("(threshold IS NULL) = (band_low IS NULL)", name=op.f(f"ck_{_NAME}_all_or_none_low")),
        sa.CheckConstraint("(threshold IS NULL) = (band_high IS NULL)", name=op.f(f"ck_{_NAME}_all_or_none_high")),
        sa.CheckConstraint("0 <= band_low AND band_low <= threshold", name=op.f(f"ck_{_NAME}_band_begins_below")),
        sa.CheckConstraint("threshold <= band_high AND band_high <= 1", name=op.f(f"ck_{_NAME}_band_ends_above")),
    )
    op.create_index(f"ix_{_NAME}_model_version", _NAME, ["model_version", "tenant", "id"])
    if op.get_bind().dialect.name == "postgresql":
        for statement in wall(_NAME):
            op.execute(statement)


def downgrade() -> None:
    op.drop_table(_NAME)
