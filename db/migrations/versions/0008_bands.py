"""The band around the operating point in which no label is given, of each model version and in each result."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BAND = ("band_low", "band_high")
AROUND = "threshold BETWEEN band_low AND band_high"
CHECK = op.f("ck_models_band_around_threshold")
# SQLite changes a table by making it anew, and Alembic does not read this back by itself.
KNOWN = sa.CheckConstraint("threshold BETWEEN 0 AND 1", name=op.f("ck_models_threshold_in_range"))


def upgrade() -> None:
    with op.batch_alter_table("models", table_args=(KNOWN,)) as models:
        for column in BAND:
            models.add_column(sa.Column(column, sa.Float(), nullable=True))
        models.create_check_constraint(CHECK, AROUND)
    for column in BAND:
        op.add_column("results", sa.Column(column, sa.Float(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("models", table_args=(KNOWN, sa.CheckConstraint(AROUND, name=CHECK))) as models:
        models.drop_constraint(CHECK, type_="check")
        for column in BAND:
            models.drop_column(column)
    for column in BAND:
        op.drop_column("results", column)
