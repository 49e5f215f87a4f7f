"""Pixels that are no longer needed; results and audit stay."""

from collections.abc import Iterable

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session, aliased

from db import audit, clock, heatmaps
from db.blobs import Blobs
from db.clock import now
from db.database import Database
from db.ending import BatchOpen
from db.tables import OPEN, Batch, Image, Model

_TOGETHER = 100
_LATELY_SECONDS = 2 * 24 * 3600


def mark(session: Session, batch: Batch, *, actor: str) -> None:
    """Say that the batch's pixels are to go; a second time changes nothing. Raises BatchOpen."""
    if batch.state in OPEN:
        raise BatchOpen(batch.id)
    if batch.purged_at is None:
        batch.purged_at = clock.read(session)
        audit.append(session, actor, [audit.Entry("batch.purged", batch.id, batch.id, {"images": batch.total})])


def remove(database: Database, blobs: Blobs, batch_id: str) -> int:
    """Remove the blobs of a marked batch that no other image and no model needs, and return how many.

    The database is the system's: another hospital may have sent the same image.

    Removing and submitting take turns at the end of the audit chain, see `missing`; a few blobs in each turn, since
    everybody waits. May run again and again.
    """
    removed = 0
    heatmaps.remove(blobs, batch_id)
    with database.read() as session:
        candidates = [sha256 for sha256 in session.scalars(_unneeded(batch_id)) if blobs.path(sha256).exists()]
    for start in range(0, len(candidates), _TOGETHER):
        with database.write() as session:
            audit.hold_every(session)
            some = Image.sha256.in_(candidates[start : start + _TOGETHER])
            removed += blobs.remove(session.scalars(_unneeded(batch_id).where(some)).all())
    return removed


def unfinished(session: Session) -> list[str]:
    """The batches that were marked lately; who marked one may have died before the end."""
    return list(session.scalars(select(Batch.id).where(Batch.purged_at > now(-_LATELY_SECONDS))))


def _unneeded(batch_id: str) -> Select[str]:
    other = aliased(Image)
    needed = exists().where(other.sha256 == Image.sha256, other.batch_id == Batch.id, Batch.purged_at.is_(None))
    weights = exists().where(Model.weights_sha256 == Image.sha256)
    return select(Image.sha256).distinct().where(Image.batch_id == batch_id, ~needed, ~weights)


def missing(blobs: Blobs, sha256s: Iterable[str]) -> bool:
    """Whether a blob is gone that was just kept: asked in the transaction that needs it, after its audit row."""
    return any(not blobs.path(sha256).exists() for sha256 in sha256s)
