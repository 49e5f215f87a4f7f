"""A promotion that a person withdrew is no longer one that no worker could use."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

BEFORE = {
    "state_known": "state IN ('pending', 'in_effect', 'refused')",
    "settled": "(state = 'pending') = (settled_at IS NULL)",
    "refusal_has_problem": "(state = 'refused') = (problem IS NOT NULL)",
}
AFTER = BEFORE | {
    "state_known": "state IN ('pending', 'in_effect', 'refused', 'withdrawn')",
    "refusal_has_problem": "(state IN ('refused', 'withdrawn')) = (problem IS NOT NULL)",
}


def upgrade() -> None:
    _change(BEFORE, AFTER)
    op.execute("UPDATE promotions SET state = 'withdrawn' WHERE state = 'refused' AND problem LIKE 'withdrawn by %'")


def downgrade() -> None:
    op.execute("UPDATE promotions SET state = 'refused' WHERE state = 'withdrawn'")
    _change(AFTER, BEFORE)


def _change(before: dict[str, str], after: dict[str, str]) -> None:
    """All of them, since SQLite makes the table anew, and Alembic brings no check over."""
    with op.batch_alter_table("promotions") as promotions:
        for name in before:
            promotions.drop_constraint(op.f(f"ck_promotions_{name}"), type_="check")
        for name, text in after.items():
            promotions.create_check_constraint(op.f(f"ck_promotions_{name}"), sa.text(text))
