"""Keys that make a repeated request harmless: the same key gives the same answer."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, PrimaryKeyConstraint, Text, delete, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from db.batches import Item
from db.clock import Moment, now
from db.tables import Table
from db.tenancy import Owned, of_its_batch


class IdempotencyKey(Owned, Table):
    """A sender's name for one request: reserved with what the request did, and answered afterwards. Each hospital has its own.

    Kept as its SHA-256, since nobody knows what stands in it.
    """

    __tablename__ = "idempotency_keys"
    key: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(Text)
    batch_id: Mapped[str | None] = mapped_column(Text)
    status: Mapped[int | None] = mapped_column(Integer)
    location: Mapped[str | None] = mapped_column(Text)
    body: Mapped[str | None] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(Moment)
    __table_args__ = (PrimaryKeyConstraint("tenant", "key"), of_its_batch())


class KeyReused(Exception):
    """The key was used before, for a request that was not the same."""


@dataclass(frozen=True)
class Earlier:
    """What the request of a key came to; `status` is None where its answer was never kept."""

    batch_id: str | None
    status: int | None
    location: str | None
    body: str | None
    fresh: bool


_FRESH_SECONDS = 120
_REMEMBERED_SECONDS = 30 * 24 * 3600


def _kept(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def fingerprint(*said: Any) -> str:
    """SHA-256 over all that a request says."""
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def of_items(items: Sequence[Item]) -> list[tuple[str, str, str | None]]:
    """What the images of a submission say of it."""
    return [(item.custom_id, item.sha256, item.code) for item in items]


def earlier(session: Session, key: str, request: str) -> Earlier | None:
    """Return what came of the request that this key stands for, or None; raise KeyReused if it was another request."""
    row = session.execute(
        select(IdempotencyKey, IdempotencyKey.at > now(-_FRESH_SECONDS)).where(IdempotencyKey.key == _kept(key))
    ).one_or_none()
    if row is None:
        return None
    known, fresh = row
    if known.fingerprint != request:
        raise KeyReused
    return Earlier(known.batch_id, known.status, known.location, known.body, bool(fresh))


def reserve(session: Session, key: str, request: str, *, tenant: str, batch_id: str | None = None) -> None:
    """Remember the tenant's key in the transaction of what the request does. Raises IntegrityError if another was faster."""
    row = {
        "key": _kept(key),
        "fingerprint": request,
        "tenant": tenant,
        "batch_id": batch_id,
        "status": None,
        "at": now(),
    }
    session.execute(insert(IdempotencyKey).values(row))


def answer(session: Session, key: str, *, status: int, location: str | None, body: str) -> None:
    """Keep the answer, to be given again."""
    session.execute(
        update(IdempotencyKey)
        .where(IdempotencyKey.key == _kept(key))
        .values(status=status, location=location, body=body)
    )


def forget(session: Session) -> None:
    """Drop the keys of long ago; nobody repeats those requests any more."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.at < now(-_REMEMBERED_SECONDS)))


def forget_answers(session: Session, batch_id: str) -> None:
    """Drop what was answered of a batch: it names images. That the request was carried out stays known."""
    session.execute(
        update(IdempotencyKey).where(IdempotencyKey.batch_id == batch_id).values(status=None, location=None, body=None)
    )


def release(session: Session, key: str) -> None:
    """Forget a key whose request was refused after all."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.key == _kept(key), IdempotencyKey.status.is_(None)))
