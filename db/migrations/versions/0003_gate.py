"""A result without a number: which gate was asked, and that only what it stops goes without a probability."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# SQLite changes a column by making the table anew, and Alembic does not read these back by itself.
CHECKS = {
    "label_known": "label IN ('positive', 'negative', 'inconclusive')",
    "probability_in_range": "probability BETWEEN 0 AND 1",
    "raw_probability_in_range": "raw_probability BETWEEN 0 AND 1",
}
NEW_CHECKS = {
    "label_has_probability": "label = 'inconclusive' OR probability IS NOT NULL",
    "probability_was_raw": "(probability IS NULL) = (raw_probability IS NULL)",
}


def checks(named: dict[str, str]) -> tuple[sa.CheckConstraint, ...]:
    return tuple(sa.CheckConstraint(text, name=op.f(f"ck_results_{name}")) for name, text in named.items())


def upgrade() -> None:
    with op.batch_alter_table("results", table_args=checks(CHECKS)) as results:
        results.add_column(sa.Column("gate", sa.Text(), nullable=True))
        for column in ("raw_probability", "probability"):
            results.alter_column(column, existing_type=sa.Float(), nullable=True)
        for name, text in NEW_CHECKS.items():
            results.create_check_constraint(op.f(f"ck_results_{name}"), text)


def downgrade() -> None:
    # The tables before this had no place for an answer without a number.
    op.execute("DELETE FROM results WHERE probability IS NULL")
    with op.batch_alter_table("results", table_args=checks(CHECKS | NEW_CHECKS)) as results:
        for name in NEW_CHECKS:
            results.drop_constraint(op.f(f"ck_results_{name}"), type_="check")
        for column in ("raw_probability", "probability"):
            results.alter_column(column, existing_type=sa.Float(), nullable=False)
        results.drop_column("gate")
