"""Keys that make a repeated submission harmless: the same key gives the same batch."""

import hashlib
import json
from collections.abc import Sequence

from sqlalchemy import PrimaryKeyConstraint, Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from db.batches import Item
from db.tables import Lane, Table
from db.tenancy import Owned, of_its_batch


class IdempotencyKey(Owned, Table):
    """A sender's name for one submission: the same key again gives the same batch. Each hospital has its own."""

    __tablename__ = "idempotency_keys"
    key: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(Text)
    batch_id: Mapped[str] = mapped_column(Text)
    __table_args__ = (PrimaryKeyConstraint("tenant", "key"), of_its_batch())


class KeyReused(Exception):
    """The key was used before, for a submission that was not the same."""


def fingerprint(items: Sequence[Item], *, lane: Lane, synthetic: bool) -> str:
    """SHA-256 over all that a submission says."""
    said = [lane, synthetic, [(item.custom_id, item.sha256, item.code) for item in items]]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def earlier(session: Session, key: str, submission: str) -> str | None:
    """Return the batch that was submitted under this key, or None; raise KeyReused if it was another submission."""
    known = session.scalar(select(IdempotencyKey).where(IdempotencyKey.key == key))
    if known is None:
        return None
    if known.fingerprint != submission:
        raise KeyReused(key)
    return known.batch_id


def keep(session: Session, key: str, submission: str, batch_id: str) -> None:
    """Remember the key in the batch's own transaction."""
    session.add(IdempotencyKey(key=key, fingerprint=submission, batch_id=batch_id))
