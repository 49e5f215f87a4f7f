"""The ends that are not the model's: cancelled, expired; and the way back from them."""

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from db import audit, states
from db.clock import now
from db.tables import OPEN, Batch, BatchState, Image, ImageState

# They end the process that touches them, so they are worked on with nothing beside them.
_DANGEROUS = {"worker_died", "decoder_died"}
_AGAIN = (ImageState.QUARANTINED, ImageState.CANCELLED, ImageState.EXPIRED)


class BatchClosed(Exception):
    """The batch has ended, so there is nothing left to stop."""


class BatchOpen(Exception):
    """The batch has not ended yet."""


class NothingToRetry(Exception):
    """Every image of the batch has its result or was rejected, and a rejected one would be rejected again."""


class NeverSubmitted(Exception):
    """The batch is a draft that ended before it was submitted, so no model is pinned to it."""


class BatchPurged(Exception):
    """The batch's pixels are gone."""


def cancel(session: Session, batch: Batch, *, actor: str) -> None:
    """Stop what is not yet begun; what a worker holds is finished and kept. A second time does no harm. Raises BatchClosed.

    The caller holds the end of the audit chain, so that an image that comes back to the queue meanwhile is
    stopped by whoever brings it back.
    """
    if batch.state not in OPEN:
        raise BatchClosed(batch.id)
    if batch.state != BatchState.CANCELLING:
        batch.state = BatchState.CANCELLING
        session.flush()
        audit.append(session, actor, [audit.Entry("batch.cancelling", batch.id, batch.id, {})])
    _stop(session, actor, {batch.id}, ImageState.CANCELLED)


def expire(session: Session, *, worker: str) -> int:
    """Stop the batches whose time is over, and return how many of their images had not begun."""
    in_time = (BatchState.RECEIVING, BatchState.PROCESSING)
    overdue = select(Batch.id).where(Batch.state.in_(in_time), Batch.expires_at < now())
    if not session.scalars(overdue.limit(1)).all():
        return 0
    audit.hold_of(session, session.scalars(overdue))
    return _stop(session, worker, set(session.scalars(overdue)), ImageState.EXPIRED)


def stop_leftovers(session: Session, *, worker: str) -> int:
    """Cancel what still waits in cancelled batches: it was being claimed at that moment, and the claim fell through."""
    waits = exists().where(Image.batch_id == Batch.id, Image.state == ImageState.QUEUED)
    cancelled = select(Batch.id).where(Batch.state == BatchState.CANCELLING, waits)
    if not session.scalars(cancelled.limit(1)).all():
        return 0
    audit.hold_of(session, session.scalars(cancelled))
    return _stop(session, worker, set(session.scalars(cancelled)), ImageState.CANCELLED)


def stop_again(session: Session, worker: str, batch_ids: set[str]) -> None:
    """Stop the images that came back to the queue of a batch that was cancelled meanwhile."""
    if not batch_ids:
        return
    audit.hold_of(session, batch_ids)  # a cancellation that began before has ended now, and is seen
    cancelled = select(Batch.id).where(Batch.id.in_(batch_ids), Batch.state == BatchState.CANCELLING)
    _stop(session, worker, set(session.scalars(cancelled)), ImageState.CANCELLED)


def retry(session: Session, batch: Batch, *, actor: str, expire_seconds: int) -> int:
    """Queue what was quarantined, cancelled or expired again, under the same ids, and return how many images.

    Raises BatchOpen, BatchPurged, NeverSubmitted, NothingToRetry.
    """
    if batch.state in OPEN:
        raise BatchOpen(batch.id)
    if batch.model_version is None:
        raise NeverSubmitted(batch.id)
    if batch.purged_at or batch.results_purged_at:
        raise BatchPurged(batch.id)
    mine = Image.batch_id == batch.id
    dangerous = states.move(
        session, ImageState.QUARANTINED, ImageState.QUEUED, mine & Image.code.in_(_DANGEROUS), alone=True, strikes=0
    )
    moved = len(dangerous) + sum(
        len(states.move(session, source, ImageState.QUEUED, mine, strikes=0)) for source in _AGAIN
    )
    if not moved:
        raise NothingToRetry(batch.id)
    session.execute(
        update(Batch)
        .where(Batch.id == batch.id)
        .values(state=BatchState.PROCESSING, outcome=None, finished_at=None, expires_at=now(expire_seconds))
    )
    audit.append(session, actor, [audit.Entry("batch.retried", batch.id, batch.id, {"images": moved})])
    return moved


def _stop(session: Session, actor: str, batch_ids: set[str], target: ImageState) -> int:
    """Move what still waits in these batches to `target`; the caller holds the end of the audit chain."""
    if not batch_ids:
        return 0
    # An image that is locked is being claimed at this moment, and counts as begun.
    waiting = (
        select(Image.id)
        .where(Image.batch_id.in_(batch_ids), Image.state == ImageState.QUEUED)
        .with_for_update(skip_locked=True)
        .cte("waiting")
    )
    moved = states.move(session, ImageState.QUEUED, target, Image.id.in_(select(waiting.c.id)))
    moved += states.move(session, ImageState.RECEIVED, target, Image.batch_id.in_(batch_ids))
    entries = [audit.Entry(f"image.{target}", f"image:{row.id}", row.batch_id, {"sha256": row.sha256}) for row in moved]
    audit.append(session, actor, entries)
    states.close_finished(session, actor, batch_ids)
    return len(moved)
