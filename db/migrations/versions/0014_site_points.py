"""Operating points of model versions for single hospitals."""

import sqlalchemy as sa
from alembic import op

from db.clock import Moment

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "site_points",
        sa.Column("model_version", sa.Text(), sa.ForeignKey("models.version", name="fk_site_points_model_version"), nullable=False),
        sa.Column("site", sa.Text(), sa.ForeignKey("tenants.id", name="fk_site_points_site"), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("band_low", sa.Float(), nullable=False),
        sa.Column("band_high", sa.Float(), nullable=False),
        sa.Column("chosen_on", sa.JSON(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("model_version", "site", name="pk_site_points"),
        sa.CheckConstraint("threshold BETWEEN 0 AND 1", name=op.f("ck_site_points_threshold_in_range")),
        sa.CheckConstraint(
            "threshold BETWEEN band_low AND band_high", name=op.f("ck_site_points_band_around_threshold")
        ),
    )


def downgrade() -> None:
    op.drop_table("site_points")
