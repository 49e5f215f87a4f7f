"""The audit: append-only rows in a chain for each hospital, each one's hash covering the row before it."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select, true, update
from sqlalchemy.orm import Session

from db import clock, tables, tenancy
from db.chains import AuditHead, AuditRow
from db.tables import Batch

HASHED = ("seq", "at", "actor", "action", "subject", "batch_id", "detail", "previous_hash")

ORIGIN: ContextVar[str | None] = ContextVar("origin", default=None)
"""The address that the present request came from; None in a worker."""

_CANONICAL = json.JSONEncoder(separators=(",", ":"))
_DETAIL = json.JSONEncoder(separators=(",", ":"), sort_keys=True)


@dataclass(frozen=True)
class Entry:
    """One thing that happened. `detail` holds no patient data: ids, codes, hashes, numbers.

    What happened to a batch stands in the chain of its hospital, whatever else in that of `tenant`, or the session's.
    """

    action: str
    subject: str
    batch_id: str | None
    detail: Mapping[str, Any]
    tenant: str | None = None


def append(session: Session, actor: str, entries: Iterable[Entry]) -> None:
    """Add rows to their chains in this transaction; other writers of these chains wait until it ends."""
    told = list(entries)
    if not told:
        return
    owners = _owners(session, told)
    heads = _held(session, AuditHead.tenant.in_(set(owners)))
    if {head.tenant for head in heads} != set(owners):
        raise LookupError(f"no chain for {set(owners)}: nothing is done without its row")
    at = clock.read(session).isoformat(timespec="milliseconds")
    for head in heads:
        mine = [entry for entry, owner in zip(told, owners, strict=True) if owner == head.tenant]
        rows = _linked(head, mine, actor=actor, at=at)
        tables.insert_rows(session, AuditRow, rows)
        end = {"seq": rows[-1]["seq"], "hash": rows[-1]["hash"]}
        session.execute(update(AuditHead).where(AuditHead.tenant == head.tenant).values(**end))


def _owners(session: Session, entries: Sequence[Entry]) -> list[str]:
    """Whose chain each entry belongs to."""
    own = tenancy.of(session)
    if own is not None:
        return [own] * len(entries)
    batches = {entry.batch_id for entry in entries} - {None}
    found = session.execute(select(Batch.id, Batch.tenant).where(Batch.id.in_(batches))) if batches else ()
    tenants: dict[str | None, str] = {batch_id: tenant for batch_id, tenant in found}  # noqa: C416 - they are rows
    return [entry.tenant or tenants.get(entry.batch_id, tenancy.SYSTEM) for entry in entries]


def _linked(head: AuditHead, entries: Sequence[Entry], *, actor: str, at: str) -> list[dict[str, Any]]:
    rows = []
    seq, previous = head.seq, head.hash
    for entry in entries:
        seq += 1
        row = {
            "tenant": head.tenant,
            "seq": seq,
            "at": at,
            "actor": actor,
            "origin": ORIGIN.get(),
            "action": entry.action,
            "subject": entry.subject,
            "batch_id": entry.batch_id,
            "detail": detail_text(entry.detail),
            "previous_hash": previous,
        }
        previous = row["hash"] = digest(row)
        rows.append(row)
    return rows


def detail_text(detail: Mapping[str, Any]) -> str:
    """As it stands in the row, and in its hash."""
    return _DETAIL.encode(detail)


@contextmanager
def coming_from(origin: str) -> Iterator[None]:
    """Write what happens in this block down with where it came from."""
    token = ORIGIN.set(origin)
    try:
        yield
    finally:
        ORIGIN.reset(token)


def begin(session: Session, tenant: str) -> None:
    """Give a new hospital a chain."""
    tables.insert_rows(session, AuditHead, [{"tenant": tenant, "seq": 0, "hash": genesis(tenant), "pruned": 0}])


def genesis(tenant: str) -> str:
    """What a chain's first row names as the hash before it, so that no chain passes for another hospital's."""
    if tenant == tenancy.DEFAULT:
        return "0" * 64  # from before there were tenants
    return hashlib.sha256(f"cxr-batch audit {tenant}".encode()).hexdigest()


def hold(session: Session) -> AuditHead:
    """Lock the end of the session's own chain until this transaction ends, and return it."""
    return _held(session, AuditHead.tenant == (tenancy.of(session) or tenancy.SYSTEM))[0]


def hold_chain(session: Session, tenant: str) -> AuditHead:
    """Lock the end of this hospital's chain until this transaction ends, and return it."""
    return _held(session, AuditHead.tenant == tenant)[0]


def hold_of(session: Session, batch_ids: Iterable[str]) -> None:
    """Lock the ends of the chains of the hospitals whose batches these are."""
    _held(session, AuditHead.tenant.in_(select(Batch.tenant).where(Batch.id.in_(set(batch_ids)))))


def hold_every(session: Session) -> None:
    """Lock the ends of all chains: nobody submits or finishes anything until this transaction ends."""
    _held(session, true())


def _held(session: Session, which: ColumnElement[bool]) -> Sequence[AuditHead]:
    """Always in the order of their names: two orders would be a deadlock."""
    wanted = select(AuditHead).where(which).order_by(AuditHead.tenant).with_for_update()
    return session.scalars(wanted.execution_options(populate_existing=True)).all()


def digest(row: Mapping[Any, Any]) -> str:
    """SHA-256 over the canonical JSON of everything in the row but its own hash.

    The origin stands last and only where there is one, so that rows from before there were origins still hold. The
    tenant is in it by the chain's first row.
    """
    told = [row[name] for name in HASHED]
    if row["origin"] is not None:
        told.append(row["origin"])
    return hashlib.sha256(_CANONICAL.encode(told).encode()).hexdigest()


def count(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(AuditRow)).one()
