"""Rows of the audit that were kept long enough: removed, with a signed checkpoint in the chain in their place."""

from dataclasses import asdict
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from db import audit, clock
from db.audit import Entry
from db.chains import AuditHead, AuditRow
from db.database import Database
from db.heads import Heads
from db.proof import PRUNED
from db.retention import ACTOR

_TOGETHER = 5_000


def prune(database: Database, heads: Heads, days: int) -> int:
    """Remove from every chain what is older, and return how many rows; begun and killed, the next call ends it."""
    if not days:
        return 0
    with database.read() as session:
        tenants = session.scalars(select(AuditHead.tenant).order_by(AuditHead.tenant)).all()
    removed = 0
    for tenant in tenants:
        with database.write() as session:
            _give_up(session, heads, tenant, days)
        while some := _remove_some(database, tenant):
            removed += some
    return removed


def _give_up(session: Session, heads: Heads, tenant: str, days: int) -> None:
    """Say in the chain which rows are to go and what the last of them hashed to; the rows themselves are still there."""
    head = audit.hold_chain(session, tenant)
    before = (clock.read(session) - timedelta(days=days)).isoformat(timespec="milliseconds")
    present = select(AuditRow).where(AuditRow.tenant == tenant, AuditRow.seq > head.pruned).order_by(AuditRow.seq)
    first_kept = session.scalars(present.where(AuditRow.at >= before).limit(1)).first()
    through = first_kept.seq - 1 if first_kept else head.seq
    if through <= head.pruned:
        return
    last = session.get_one(AuditRow, (tenant, through))
    checkpoint = heads.checkpoint(tenant, through, last.hash, last.at)
    detail = {"rows": through - head.pruned, "head": asdict(checkpoint)}
    audit.append(session, ACTOR, [Entry(PRUNED, "audit", None, detail, tenant)])
    session.execute(update(AuditHead).where(AuditHead.tenant == tenant).values(pruned=through))


def _remove_some(database: Database, tenant: str) -> int:
    """A few in each transaction, and without the chain: nobody waits for it."""
    with database.write() as session:
        pruned = session.scalars(select(AuditHead.pruned).where(AuditHead.tenant == tenant)).one()
        old = (AuditRow.tenant == tenant) & (AuditRow.seq <= pruned)
        last = session.scalars(select(AuditRow.seq).where(old).order_by(AuditRow.seq).limit(_TOGETHER)).all()
        if last:
            session.execute(
                delete(AuditRow).where(old, AuditRow.seq <= last[-1]).execution_options(synchronize_session=False)
            )
    return len(last)
