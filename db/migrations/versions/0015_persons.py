"""Keys that name a person, whom a sign-in provider knows."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("api_keys") as keys:
        keys.add_column(sa.Column("person", sa.Text(), nullable=True))
        keys.create_unique_constraint(op.f("uq_api_keys_person"), ["person"])


def downgrade() -> None:
    with op.batch_alter_table("api_keys") as keys:
        keys.drop_constraint(op.f("uq_api_keys_person"), type_="unique")
        keys.drop_column("person")
