"""The audit: append-only rows, each one's hash covering the row before it."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from db import clock, tables
from db.tables import AuditHead, AuditRow

GENESIS = "0" * 64
HASHED = ("seq", "at", "actor", "action", "subject", "batch_id", "detail", "previous_hash")

ORIGIN: ContextVar[str | None] = ContextVar("origin", default=None)
"""The address that the present request came from; None in a worker."""

_CANONICAL = json.JSONEncoder(separators=(",", ":"))
_DETAIL = json.JSONEncoder(separators=(",", ":"), sort_keys=True)


@dataclass(frozen=True)
class Entry:
    """One thing that happened. `detail` holds no patient data: ids, codes, hashes, numbers."""

    action: str
    subject: str
    batch_id: str | None
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What a walk along the chain found: how many rows hold, and what is wrong with the first that does not."""

    rows: int
    problem: str | None


def append(session: Session, actor: str, entries: Iterable[Entry]) -> None:
    """Add rows to the chain in this transaction; other writers of the chain wait until it ends."""
    head = hold(session)
    seq, previous = head.seq, head.hash
    at = clock.read(session).isoformat(timespec="milliseconds")
    rows = []
    for entry in entries:
        seq += 1
        row = {
            "seq": seq,
            "at": at,
            "actor": actor,
            "origin": ORIGIN.get(),
            "action": entry.action,
            "subject": entry.subject,
            "batch_id": entry.batch_id,
            "detail": _DETAIL.encode(entry.detail),
            "previous_hash": previous,
        }
        previous = row["hash"] = digest(row)
        rows.append(row)
    if rows:
        tables.insert_rows(session, AuditRow, rows)
        session.execute(update(AuditHead).values(seq=seq, hash=previous))


@contextmanager
def coming_from(origin: str) -> Iterator[None]:
    """Write what happens in this block down with where it came from."""
    token = ORIGIN.set(origin)
    try:
        yield
    finally:
        ORIGIN.reset(token)


def hold(session: Session) -> AuditHead:
    """Lock the end of the chain until this transaction ends, and return it."""
    return session.scalars(select(AuditHead).with_for_update().execution_options(populate_existing=True)).one()


def digest(row: Mapping[Any, Any]) -> str:
    """SHA-256 over the canonical JSON of everything in the row but its own hash.

    The origin stands last and only where there is one, so that rows from before there were origins still hold.
    """
    told = [row[name] for name in HASHED]
    if row["origin"] is not None:
        told.append(row["origin"])
    return hashlib.sha256(_CANONICAL.encode(told).encode()).hexdigest()


def verify(session: Session, signed: Mapping[int, str] | None = None) -> Verdict:
    """Walk the whole chain; an edit, deletion, swap or truncation breaks it.

    `signed` is what rows hashed to when they were the last, from outside this database: without it, a chain
    that was written anew from some row on, with its head, would hold.
    """
    signed = signed or {}
    previous, count = GENESIS, 0
    statement = select(AuditRow.__table__).order_by(AuditRow.seq).execution_options(yield_per=1_000)
    with session.execute(statement) as rows:
        for row in rows.mappings():
            if row["seq"] != count + 1:
                return Verdict(count, f"row {count + 1} is missing")
            if row["previous_hash"] != previous or row["hash"] != digest(row):
                return Verdict(count, f"row {row['seq']} was changed")
            previous, count = row["hash"], count + 1
            if signed.get(count, previous) != previous:
                return Verdict(count - 1, f"row {count} is not the one that was signed")
    head = session.scalars(select(AuditHead)).one()
    if (head.seq, head.hash) != (count, previous):
        return Verdict(count, f"the head names row {head.seq}, the chain ends at {count}")
    if max(signed, default=0) > count:
        return Verdict(count, f"row {max(signed)} was signed, the chain ends at {count}")
    return Verdict(count, None)


def count(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(AuditRow)).one()
