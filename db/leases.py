"""Leases that ended: what silent workers held comes back, and what ends workers is taken out."""

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from db import audit, ending, states
from db.clock import now
from db.tables import Image, ImageState

MOST_STRIKES = 10
LONGEST_LEASE_SECONDS = 900


def sweep(session: Session, *, worker: str) -> int:
    """Take back what silent workers held, and return how many images.

    Images that were held together come back to be worked on alone. One that was alone gets a strike: after three,
    the next worker tries it in a process of its own and sees what happens. Where not even that comes to its end,
    it is quarantined at MOST_STRIKES. A lease that ends later than any lease can was given before the clock was set back.
    """
    over = or_(Image.lease_until < now(), Image.lease_until > now(2 * LONGEST_LEASE_SECONDS))
    last = and_(over, Image.alone, Image.strikes >= MOST_STRIKES - 1)
    fatal = states.move(
        session,
        ImageState.LEASED,
        ImageState.QUARANTINED,
        last,
        code="worker_died",
        strikes=Image.strikes + 1,
    )
    again = states.move(
        session, ImageState.LEASED, ImageState.QUEUED, and_(over, Image.alone), strikes=Image.strikes + 1
    )
    suspects = states.move(session, ImageState.LEASED, ImageState.QUEUED, and_(over, ~Image.alone), alone=True)
    back = [*again, *suspects]
    audit.hold_of(
        session, {row.batch_id for row in [*fatal, *back]}
    )  # all at once, since two orders would be a deadlock
    if fatal:
        entries = [
            audit.Entry(
                "image.quarantined", f"image:{row.id}", row.batch_id, {"sha256": row.sha256, "code": "worker_died"}
            )
            for row in fatal
        ]
        audit.append(session, worker, entries)
        states.close_finished(session, worker, {row.batch_id for row in fatal})
    ending.stop_again(session, worker, {row.batch_id for row in back})
    return len(fatal) + len(back)


def next_end(session: Session) -> float | None:
    """Seconds until the first lease ends, or None where nothing is leased."""
    ends, present = session.execute(
        select(func.min(Image.lease_until), now()).where(Image.state == ImageState.LEASED)
    ).one()
    return None if ends is None else float((ends - present).total_seconds())
