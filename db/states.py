"""The one way a state changes: compare-and-set in SQL."""

from typing import Any

from sqlalchemy import ColumnElement, Row, exists, func, select, update
from sqlalchemy.orm import Session

from db import audit, webhooks
from db.clock import now
from db.tables import TERMINAL, Batch, BatchState, Image, ImageState, Outcome
from db.webhooks import Event

_RELEASED = {"lease_token": None, "lease_until": None}
_MOVES = {
    ImageState.RECEIVED: {ImageState.QUEUED, ImageState.CANCELLED, ImageState.EXPIRED},
    ImageState.QUEUED: {ImageState.LEASED, ImageState.CANCELLED, ImageState.EXPIRED},
    ImageState.LEASED: {ImageState.QUEUED, ImageState.CLASSIFIED, ImageState.REJECTED, ImageState.QUARANTINED},
    ImageState.QUARANTINED: {ImageState.QUEUED},
    ImageState.CANCELLED: {ImageState.QUEUED},
    ImageState.EXPIRED: {ImageState.QUEUED},
}
_CLOSED_AS = {BatchState.PROCESSING: BatchState.COMPLETED, BatchState.CANCELLING: BatchState.CANCELLED}


def move(
    session: Session, source: ImageState, target: ImageState, where: ColumnElement[bool], **values: Any
) -> list[Row[Any]]:
    """Move the images that are in `source` and match `where`, and return (id, batch_id, sha256, attempts, strikes, lease_until) of those moved."""
    if target not in _MOVES[source]:
        raise ValueError(f"no image goes from {source} to {target}")
    if target != ImageState.LEASED:
        values |= _RELEASED
    if target in TERMINAL:
        values["finished_at"] = now()
    elif source in TERMINAL:
        values |= {"finished_at": None, "code": None}
    statement = (
        update(Image)
        .where(Image.state == source, where)
        .values(state=target, **values)
        .returning(Image.id, Image.batch_id, Image.sha256, Image.attempts, Image.strikes, Image.lease_until)
        .execution_options(synchronize_session=False)
    )
    return list(session.execute(statement))


def counts(session: Session, batch_id: str) -> dict[ImageState, int]:
    """How many images of the batch are in each state, from one statement, so that they add up to its total."""
    rows = session.execute(select(Image.state, func.count()).where(Image.batch_id == batch_id).group_by(Image.state))
    found = {ImageState(state): number for state, number in rows}
    return {state: found.get(state, 0) for state in ImageState}


def close_finished(session: Session, actor: str, batch_ids: set[str]) -> None:
    """Close those of the batches whose images are all terminal: completed, cancelled or expired.

    The caller holds the end of the audit chain, so that of two workers that finish the last images of a
    batch, the second sees what the first did.
    """
    entries = []
    for batch_id in sorted(batch_ids):
        waiting = exists().where(Image.batch_id == batch_id, Image.state.not_in(TERMINAL))
        if session.scalar(select(waiting)):
            continue
        numbers = counts(session, batch_id)
        state = _closed_as(session, batch_id, numbers)
        if state is None:
            continue
        outcome = _outcome(numbers) if state == BatchState.COMPLETED else None
        session.execute(
            update(Batch).where(Batch.id == batch_id).values(state=state, outcome=outcome, finished_at=now())
        )
        detail: dict[str, Any] = {"outcome": outcome} if outcome else {}
        detail |= {state: number for state, number in numbers.items() if number}
        entries.append(audit.Entry(f"batch.{state}", batch_id, batch_id, detail))
        told = {"state": state, "outcome": outcome, "total": sum(numbers.values()), "counts": numbers}
        webhooks.announce(session, batch_id, Event(f"batch.{state}"), told)
    if entries:
        audit.append(session, actor, entries)


def _closed_as(session: Session, batch_id: str, numbers: dict[ImageState, int]) -> BatchState | None:
    """What the open batch ends as, or None if it is closed already. A draft is not closed but by its time."""
    state = session.scalars(select(Batch.state).where(Batch.id == batch_id)).one()
    if state == BatchState.RECEIVING or (state == BatchState.PROCESSING and numbers[ImageState.EXPIRED]):
        return BatchState.EXPIRED
    return _CLOSED_AS.get(BatchState(state))


def _outcome(numbers: dict[ImageState, int]) -> Outcome:
    classified = numbers[ImageState.CLASSIFIED]
    if classified == sum(numbers.values()):
        return Outcome.ALL_CLASSIFIED
    return Outcome.PARTIAL if classified else Outcome.NONE_CLASSIFIED
