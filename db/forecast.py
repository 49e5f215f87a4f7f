"""When a batch will be finished, by what waits before it and by how fast the workers are."""

from dataclasses import dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from db import heartbeats
from db.batches import Progress
from db.tables import BatchState, Image, ImageState, Lane


@dataclass(frozen=True)
class Forecast:
    """`ahead`: images that are begun before the batch's next one; `seconds` is None where no worker says its pace."""

    ahead: int
    seconds: float | None


def forecast(session: Session, progress: Progress) -> Forecast | None:
    """Return what can be said of a batch that is under way, or None of a draft and of one that is closed."""
    if not progress.open or progress.state == BatchState.RECEIVING:
        return None
    mine = select(func.min(Image.id), func.max(Image.id)).where(
        Image.batch_id == progress.id, Image.state == ImageState.QUEUED
    )
    first, last = session.execute(mine).one()
    leased = select(func.count()).where(Image.state == ImageState.LEASED)
    under_way = session.scalars(leased).one()
    pace = heartbeats.images_per_second(session)
    until_last = under_way + (_queued_before(session, progress.lane, last + 1) if last else 0)
    ahead = _queued_before(session, progress.lane, first) if first else 0
    return Forecast(ahead, until_last / pace if pace else None)


def _queued_before(session: Session, lane: Lane, image_id: int) -> int:
    """How many queued images are claimed before this one: the more pressing lanes' first, then by age."""
    pressing = list(Lane)[: list(Lane).index(lane)]
    before = or_(Image.lane.in_(pressing), (Image.lane == lane) & (Image.id < image_id))
    return session.scalars(select(func.count()).where(Image.state == ImageState.QUEUED, before)).one()
