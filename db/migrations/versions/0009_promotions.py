"""The gate's verdicts on candidates, and changes of champion with who asked and why."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    op.create_table(
        "verdicts",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("champion", sa.Text(), nullable=False),
        sa.Column("fold_fingerprint", sa.Text(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("golden", sa.JSON(), nullable=False),
        sa.Column("reference", sa.JSON(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["version"], ["models.version"], name=op.f("fk_verdicts_version")),
        sa.ForeignKeyConstraint(["champion"], ["models.version"], name=op.f("fk_verdicts_champion")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
    )
    op.create_index("ix_verdicts_version", "verdicts", ["version"], unique=False)
    op.create_table(
        "promotions",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("rollback", sa.Boolean(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("asked_at", MOMENT, nullable=False),
        sa.Column("settled_at", MOMENT, nullable=True),
        sa.CheckConstraint("state IN ('pending', 'in_effect', 'refused')", name=op.f("ck_promotions_state_known")),
        sa.CheckConstraint("(state = 'pending') = (settled_at IS NULL)", name=op.f("ck_promotions_settled")),
        sa.CheckConstraint(
            "(state = 'refused') = (problem IS NOT NULL)", name=op.f("ck_promotions_refusal_has_problem")
        ),
        sa.ForeignKeyConstraint(["version"], ["models.version"], name=op.f("fk_promotions_version")),
        sa.ForeignKeyConstraint(["previous"], ["models.version"], name=op.f("fk_promotions_previous")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotions")),
    )
    op.create_index(
        "ix_promotions_one_pending",
        "promotions",
        ["state"],
        unique=True,
        sqlite_where=PENDING,
        postgresql_where=PENDING,
    )


def downgrade() -> None:
    op.drop_index("ix_promotions_one_pending", table_name="promotions", sqlite_where=PENDING, postgresql_where=PENDING)
    op.drop_table("promotions")
    op.drop_index("ix_verdicts_version", table_name="verdicts")
    op.drop_table("verdicts")
