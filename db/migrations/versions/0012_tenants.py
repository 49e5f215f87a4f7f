"""Tenants, keys and sign-ins; what is there already belongs to the tenant `default`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.operations.base import BatchOperations

from db.tenancy import wall

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
OWNED = ("batches", "images", "results", "labels")  # in the order of who refers to whom
KEYS = "key, fingerprint, batch_id, status, location, body, at"
OF_A_BATCH = {"images", "results"}


@contextmanager
def made_anew(table: str) -> Iterator[BatchOperations]:
    """SQLite changes a column by making the table anew, and Alembic brings neither checks nor triggers over."""
    bind = op.get_bind()
    if bind.dialect.name != "sqlite":
        with op.batch_alter_table(table) as changed:
            yield changed
        return
    found = sa.inspect(bind).get_check_constraints(table)
    checks = tuple(sa.CheckConstraint(check["sqltext"], name=op.f(str(check["name"]))) for check in found)
    triggers = f"SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = '{table}'"  # noqa: S608
    again = bind.scalars(sa.text(triggers)).all()
    with op.batch_alter_table(table, table_args=checks) as changed:
        yield changed
    for trigger in again:
        op.execute(trigger)


def upgrade() -> None:
    op.create_table(
        "tenants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint("id <> '' AND id <> '*'", name=op.f("ck_tenants_id_names_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
    )
    op.execute("INSERT INTO tenants (id, created_at) VALUES ('default', CURRENT_TIMESTAMP)")
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.Column("last_used_at", MOMENT, nullable=True),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_api_keys_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_table(
        "sign_ins",
        sa.Column("token_sha256", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("followed", sa.Boolean(), nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_sign_ins_key_id")),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_sign_ins")),
    )
    for table in OWNED:
        _give_owner(table)
    _set_keys_aside()
    _make_keys_with_tenant()
    _bring_keys_back(f"{KEYS}, 'default'")
    if op.get_bind().dialect.name == "postgresql":
        for table in (*OWNED, "idempotency_keys", "api_keys"):
            for statement in wall(table):
                op.execute(statement)


def _give_owner(table: str) -> None:
    op.add_column(table, sa.Column("tenant", sa.Text(), nullable=False, server_default="default"))
    with made_anew(table) as changed:
        changed.alter_column("tenant", existing_type=sa.Text(), server_default=None)
        changed.create_foreign_key(op.f(f"fk_{table}_tenant"), "tenants", ["tenant"], ["id"])
        if table == "batches":
            changed.create_unique_constraint(op.f("uq_batches_tenant_id"), ["tenant", "id"])
        if table in OF_A_BATCH:
            name = op.f(f"fk_{table}_batch_id")
            changed.drop_constraint(name, type_="foreignkey")
            changed.create_foreign_key(name, "batches", ["batch_id", "tenant"], ["id", "tenant"])


def _set_keys_aside() -> None:
    """A primary key is changed by a new table."""
    op.rename_table("idempotency_keys", "old_keys")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE old_keys RENAME CONSTRAINT pk_idempotency_keys TO pk_old_keys")


def _bring_keys_back(columns: str, which: str = "") -> None:
    op.execute(f"INSERT INTO idempotency_keys SELECT {columns} FROM old_keys {which}")  # noqa: S608
    op.drop_table("old_keys")


def _make_keys_with_tenant() -> None:
    op.create_table(
        "idempotency_keys",
        *_columns_of_keys(),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_idempotency_keys_tenant")),
        sa.ForeignKeyConstraint(
            ["batch_id", "tenant"], ["batches.id", "batches.tenant"], name=op.f("fk_idempotency_keys_batch_id")
        ),
        sa.PrimaryKeyConstraint("tenant", "key", name=op.f("pk_idempotency_keys")),
    )


def _make_keys_without_tenant() -> None:
    op.create_table(
        "idempotency_keys",
        *_columns_of_keys(),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_idempotency_keys_batch_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
    )


def _columns_of_keys() -> list[sa.Column[Any]]:
    return [
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("at", MOMENT, nullable=False),
    ]


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in (*OWNED, "idempotency_keys"):
            op.execute(f"DROP POLICY {table}_of_one_tenant ON {table}")
            op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    _set_keys_aside()
    _make_keys_without_tenant()
    # Two hospitals may have used the same key; the tables before this had one place for it.
    _bring_keys_back(KEYS, "WHERE tenant = (SELECT min(tenant) FROM old_keys AS same WHERE same.key = old_keys.key)")
    for table in reversed(OWNED):
        _take_owner(table)
    op.drop_table("sign_ins")
    op.drop_table("api_keys")
    op.drop_table("tenants")


def _take_owner(table: str) -> None:
    with made_anew(table) as changed:
        changed.drop_constraint(op.f(f"fk_{table}_tenant"), type_="foreignkey")
        if table == "batches":
            changed.drop_constraint(op.f("uq_batches_tenant_id"), type_="unique")
        if table in OF_A_BATCH:
            name = op.f(f"fk_{table}_batch_id")
            changed.drop_constraint(name, type_="foreignkey")
            changed.create_foreign_key(name, "batches", ["batch_id"], ["id"])
        changed.drop_column("tenant")
