"""The audit: append-only rows, each one's hash covering the row before it."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from db import clock, tables
from db.tables import AuditHead, AuditRow

GENESIS = "0" * 64
HASHED = ("seq", "at", "actor", "action", "subject", "batch_id", "detail", "previous_hash")

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


def hold(session: Session) -> AuditHead:
    """Lock the end of the chain until this transaction ends, and return it."""
    return session.scalars(select(AuditHead).with_for_update().execution_options(populate_existing=True)).one()


def digest(row: Mapping[Any, Any]) -> str:
    """SHA-256 over the canonical JSON of everything in the row but its own hash."""
    return hashlib.sha256(_CANONICAL.encode([row[name] for name in HASHED]).encode()).hexdigest()


def verify(session: Session) -> Verdict:
    """Walk the whole chain; an edit, deletion, swap or truncation breaks it."""
    previous, count = GENESIS, 0
    statement = select(AuditRow.__table__).order_by(AuditRow.seq).execution_options(yield_per=1_000)
    with session.execute(statement) as rows:
        for row in rows.mappings():
            if row["seq"] != count + 1:
                return Verdict(count, f"row {count + 1} is missing")
            if row["previous_hash"] != previous or row["hash"] != digest(row):
                return Verdict(count, f"row {row['seq']} was changed")
            previous, count = row["hash"], count + 1
    head = session.scalars(select(AuditHead)).one()
    if (head.seq, head.hash) != (count, previous):
        return Verdict(count, f"the head names row {head.seq}, the chain ends at {count}")
    return Verdict(count, None)


def count(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(AuditRow)).one()
