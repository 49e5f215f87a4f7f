"""The band around the operating point in which no label is given, of each model version and in each result."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

AROUND = "CONSTRAINT ck_models_band_around_threshold CHECK (threshold BETWEEN band_low AND band_high)"


def upgrade() -> None:
    # Written out: Alembic would make SQLite's table of models anew for the rule, and batches point at its rows.
    for table, rule in (("models", AROUND), ("results", "")):
        op.execute(f"ALTER TABLE {table} ADD COLUMN band_low FLOAT")
        op.execute(f"ALTER TABLE {table} ADD COLUMN band_high FLOAT {rule}")


def downgrade() -> None:
    for table in ("models", "results"):
        op.execute(f"ALTER TABLE {table} DROP COLUMN band_high")
        op.execute(f"ALTER TABLE {table} DROP COLUMN band_low")
