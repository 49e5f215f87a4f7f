"""When a batch expires, when its pixels were purged, and the keys that make a repeated submission harmless."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("batches", sa.Column("expires_at", MOMENT, nullable=True))
    op.add_column("batches", sa.Column("purged_at", MOMENT, nullable=True))
    op.create_index(
        "ix_batches_open",
        "batches",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('processing', 'cancelling')"),
        postgresql_where=sa.text("state IN ('processing', 'cancelling')"),
    )
    op.create_index("ix_images_sha256", "images", ["sha256"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_idempotency_keys_batch_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
    )


def downgrade() -> None:
    op.drop_table("idempotency_keys")
    op.drop_index("ix_images_sha256", table_name="images")
    op.drop_index(
        "ix_batches_open",
        table_name="batches",
        sqlite_where=sa.text("state IN ('processing', 'cancelling')"),
        postgresql_where=sa.text("state IN ('processing', 'cancelling')"),
    )
    op.drop_column("batches", "purged_at")
    op.drop_column("batches", "expires_at")
