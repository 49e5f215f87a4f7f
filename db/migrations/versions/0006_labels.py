"""Ground truth by study or image, to which rows are only added."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

REFUSE_SQLITE = """
CREATE TRIGGER labels_refuse_{verb} BEFORE {verb} ON labels
BEGIN SELECT RAISE(ABORT, 'labels are only added'); END
"""
REFUSE_POSTGRESQL = """
CREATE FUNCTION labels_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'labels are only added'; END $$;
CREATE TRIGGER labels_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON labels
FOR EACH STATEMENT EXECUTE FUNCTION labels_refuse();
"""


def upgrade() -> None:
    op.create_table(
        "labels",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("accession", sa.Text(), nullable=True),
        sa.Column("image_sha256", sa.Text(), nullable=True),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("given_by", sa.Text(), nullable=False),
        sa.Column("patient", sa.Text(), nullable=True),
        sa.Column("found_at", MOMENT, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint("label IN ('positive', 'negative')", name=op.f("ck_labels_label_known")),
        sa.CheckConstraint("source IN ('rt_pcr', 'radiologist')", name=op.f("ck_labels_source_known")),
        sa.CheckConstraint("(accession IS NULL) <> (image_sha256 IS NULL)", name=op.f("ck_labels_of_study_or_image")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_labels")),
    )
    op.create_index("ix_labels_accession", "labels", ["accession"], unique=False)
    op.create_index("ix_labels_image_sha256", "labels", ["image_sha256"], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(REFUSE_SQLITE.format(verb=verb))
    else:
        op.execute(REFUSE_POSTGRESQL)


def downgrade() -> None:
    op.drop_table("labels")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION labels_refuse()")
