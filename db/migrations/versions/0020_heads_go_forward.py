"""A head of the audit goes forward only, and gives up only what its chain says; SQLite replaces no row of it."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

# What stands in the chain under the hash that the head takes, and, where it gives rows up, says up to which.
# REPLACE fires no DELETE trigger on SQLite, whichever key is the same; the rowid is one more.
REFUSE_SQLITE = (
    """
CREATE TRIGGER audit_refuses_REPLACE BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE tenant = NEW.tenant AND seq = NEW.seq)
  OR EXISTS (SELECT 1 FROM audit WHERE hash = NEW.hash)
  OR EXISTS (SELECT 1 FROM audit WHERE rowid = NEW.rowid)
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
""",
    """
CREATE TRIGGER audit_heads_INSERT BEFORE INSERT ON audit_heads
WHEN NEW.seq <> 0 OR NEW.pruned <> 0
  OR EXISTS (SELECT 1 FROM audit_heads WHERE tenant = NEW.tenant OR rowid = NEW.rowid)
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
""",
    """
CREATE TRIGGER audit_heads_UPDATE BEFORE UPDATE ON audit_heads
WHEN NEW.tenant <> OLD.tenant OR NEW.rowid <> OLD.rowid OR NEW.seq < OLD.seq OR NEW.pruned < OLD.pruned
  OR (NEW.seq <> OLD.seq OR NEW.hash <> OLD.hash) AND NOT EXISTS (
    SELECT 1 FROM audit WHERE tenant = NEW.tenant AND seq = NEW.seq AND hash = NEW.hash)
  OR NEW.pruned > OLD.pruned AND NOT EXISTS (
    SELECT 1 FROM audit WHERE tenant = NEW.tenant AND seq = NEW.seq AND seq > NEW.pruned
    AND action = 'audit.pruned' AND json_extract(detail, '$.head.seq') = NEW.pruned)
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
""",
    """
CREATE TRIGGER audit_heads_DELETE BEFORE DELETE ON audit_heads
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
""",
)
# The search path is set lest a temporary table be taken for the real one.
REFUSE_POSTGRESQL = """
CREATE FUNCTION audit_heads_go_forward() RETURNS trigger LANGUAGE plpgsql SET search_path = {schema}, pg_temp AS
$$ DECLARE
    last audit;
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.seq <> 0 OR NEW.pruned <> 0 THEN
            RAISE EXCEPTION 'the audit is append-only';
        END IF;
        RETURN NEW;
    END IF;
    SELECT * INTO last FROM audit WHERE tenant = NEW.tenant AND seq = NEW.seq;
    IF NEW.tenant <> OLD.tenant OR NEW.seq < OLD.seq OR NEW.pruned < OLD.pruned
        OR (NEW.seq <> OLD.seq OR NEW.hash <> OLD.hash) AND NEW.hash IS DISTINCT FROM last.hash
    THEN
        RAISE EXCEPTION 'the audit is append-only';
    END IF;
    IF NEW.pruned > OLD.pruned THEN
        IF last.action IS DISTINCT FROM 'audit.pruned' OR NEW.pruned >= NEW.seq THEN
            RAISE EXCEPTION 'the audit is append-only';
        END IF;
        IF (last.detail::jsonb #>> '{{head,seq}}') IS DISTINCT FROM NEW.pruned::text THEN
            RAISE EXCEPTION 'the audit is append-only';
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_heads_go_forward BEFORE INSERT OR UPDATE ON audit_heads
FOR EACH ROW EXECUTE FUNCTION audit_heads_go_forward();
CREATE TRIGGER audit_heads_stay BEFORE DELETE OR TRUNCATE ON audit_heads
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses();
ALTER FUNCTION audit_keeps() SET search_path = {schema}, pg_temp;
"""
ALLOW_POSTGRESQL = """
ALTER FUNCTION audit_keeps() RESET search_path;
DROP TRIGGER audit_heads_stay ON audit_heads;
DROP TRIGGER audit_heads_go_forward ON audit_heads;
DROP FUNCTION audit_heads_go_forward();
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for statement in REFUSE_SQLITE:
            op.execute(statement)
        return
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(REFUSE_POSTGRESQL.format(schema=schema))


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for name in ("audit_refuses_REPLACE", "audit_heads_INSERT", "audit_heads_UPDATE", "audit_heads_DELETE"):
            op.execute(f"DROP TRIGGER {name}")
        return
    op.execute(ALLOW_POSTGRESQL)
