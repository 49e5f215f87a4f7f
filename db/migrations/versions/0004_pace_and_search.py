"""How fast each worker is, and the ways into the results: by model, by accession number."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

PRESENT = sa.text("accession IS NOT NULL")


def upgrade() -> None:
    op.add_column("workers", sa.Column("images_per_second", sa.Float(), nullable=True))
    op.create_index("ix_results_model_version", "results", ["model_version", "id"], unique=False)
    op.create_index(
        "ix_images_accession", "images", ["accession"], unique=False, sqlite_where=PRESENT, postgresql_where=PRESENT
    )


def downgrade() -> None:
    op.drop_index("ix_images_accession", table_name="images", sqlite_where=PRESENT, postgresql_where=PRESENT)
    op.drop_index("ix_results_model_version", table_name="results")
    op.drop_column("workers", "images_per_second")
