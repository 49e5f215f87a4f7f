"""A chain of the audit for each hospital and one for the system; what is there already is that of `default`."""

import hashlib

import sqlalchemy as sa
from alembic import op

from db.tenancy import wall

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SEARCHES = sa.text("action = 'results.searched'")
COLUMNS = "seq, at, actor, origin, action, subject, batch_id, detail, previous_hash, hash"

# What retention has given up may go; see db.pruning.
REFUSE_SQLITE = """
CREATE TRIGGER audit_refuses_UPDATE BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_refuses_DELETE BEFORE DELETE ON audit
WHEN OLD.seq > coalesce((SELECT pruned FROM audit_heads WHERE tenant = OLD.tenant), 0)
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
"""
REFUSE_POSTGRESQL = """
DROP TRIGGER audit_refuses_change ON audit;
CREATE TRIGGER audit_refuses_change BEFORE UPDATE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses();
CREATE FUNCTION audit_keeps() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF OLD.seq > coalesce((SELECT pruned FROM audit_heads WHERE tenant = OLD.tenant), 0) THEN
        RAISE EXCEPTION 'the audit is append-only';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER audit_refuses_delete BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_keeps();
"""
ALLOW_POSTGRESQL = """
DROP TRIGGER audit_refuses_delete ON audit;
DROP FUNCTION audit_keeps();
DROP TRIGGER audit_refuses_change ON audit;
CREATE TRIGGER audit_refuses_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses();
"""
REFUSED_SQLITE = """
CREATE TRIGGER audit_refuses_{verb} BEFORE {verb} ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
"""


def upgrade() -> None:
    op.create_table(
        "audit_heads",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("pruned", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("pruned >= 0 AND pruned <= seq", name=op.f("ck_audit_heads_pruned_in_chain")),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_audit_heads")),
    )
    op.execute("INSERT INTO audit_heads (tenant, seq, hash, pruned) SELECT 'default', seq, hash, 0 FROM audit_head")
    others = op.get_bind().scalars(sa.text("SELECT id FROM tenants WHERE id <> 'default'")).all()
    for tenant in ("*", *others):
        genesis = hashlib.sha256(f"cxr-batch audit {tenant}".encode()).hexdigest()
        empty = sa.text("INSERT INTO audit_heads (tenant, seq, hash, pruned) VALUES (:tenant, 0, :genesis, 0)")
        op.execute(empty.bindparams(tenant=tenant, genesis=genesis))
    op.drop_table("audit_head")
    if op.get_bind().dialect.name == "sqlite":
        _make_anew(sa.Column("tenant", sa.Text(), nullable=False), key=["tenant", "seq"], read=f"'default', {COLUMNS}")
        for statement in REFUSE_SQLITE.split(";\nCREATE"):
            op.execute(statement if statement.strip().startswith("CREATE") else f"CREATE{statement}")
        return
    op.execute("ALTER TABLE audit ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default'")
    op.execute("ALTER TABLE audit ALTER COLUMN tenant DROP DEFAULT")
    op.execute("ALTER TABLE audit DROP CONSTRAINT pk_audit, ADD CONSTRAINT pk_audit PRIMARY KEY (tenant, seq)")
    op.execute(REFUSE_POSTGRESQL)
    for table in ("audit", "audit_heads"):
        for statement in wall(table):
            op.execute(statement)


def _make_anew(*first: sa.Column[str], key: list[str], read: str) -> None:
    """SQLite changes a primary key by a new table; the triggers go with the old one."""
    op.drop_index("ix_audit_batch_id", table_name="audit")
    op.drop_index("ix_audit_searches", table_name="audit")
    op.rename_table("audit", "old_audit")
    texts = ("at", "actor", "origin", "action", "subject", "batch_id", "detail", "previous_hash", "hash")
    op.create_table(
        "audit",
        *first,
        sa.Column("seq", sa.BigInteger() if first else IDENTITY, autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=name in {"origin", "batch_id"}) for name in texts),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_audit")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_hash")),
    )
    columns = ", ".join([*(column.name for column in first), COLUMNS])
    op.execute(f"INSERT INTO audit ({columns}) SELECT {read} FROM old_audit")  # noqa: S608 - our own words
    op.drop_table("old_audit")
    op.create_index("ix_audit_batch_id", "audit", ["batch_id"], unique=False)
    op.create_index(
        "ix_audit_searches", "audit", ["seq"], unique=False, sqlite_where=SEARCHES, postgresql_where=SEARCHES
    )


def downgrade() -> None:
    lost = sa.text("SELECT count(*) FROM audit_heads WHERE seq > 0 AND tenant <> 'default' OR pruned > 0")
    if op.get_bind().scalar(lost):
        raise RuntimeError("the tables before this had one chain, and there are several: restore the backup")
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", IDENTITY, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_single_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.execute("INSERT INTO audit_head (id, seq, hash) SELECT 1, seq, hash FROM audit_heads WHERE tenant = 'default'")
    if op.get_bind().dialect.name == "sqlite":
        _make_anew(key=["seq"], read=COLUMNS)
        op.drop_table("audit_heads")
        for verb in ("UPDATE", "DELETE"):
            op.execute(REFUSED_SQLITE.format(verb=verb))
        return
    op.execute("DROP POLICY audit_of_one_tenant ON audit")
    op.execute("ALTER TABLE audit NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY")
    op.execute(ALLOW_POSTGRESQL)
    op.drop_table("audit_heads")
    op.execute("ALTER TABLE audit DROP CONSTRAINT pk_audit, ADD CONSTRAINT pk_audit PRIMARY KEY (seq)")
    op.drop_column("audit", "tenant")
