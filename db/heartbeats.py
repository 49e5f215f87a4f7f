"""Signs of life: one row per worker process."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Float, Text, delete, func, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from db.clock import Moment, now
from db.tables import Table

SILENT_SECONDS = 120
_FORGOTTEN_SECONDS = 24 * 3600


class Worker(Table):
    """The last sign of life of each worker process."""

    __tablename__ = "workers"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    device: Mapped[str] = mapped_column(Text)
    problem: Mapped[str | None] = mapped_column(Text)
    images_per_second: Mapped[float | None] = mapped_column(Float)
    started_at: Mapped[datetime] = mapped_column(Moment)
    seen_at: Mapped[datetime] = mapped_column(Moment)


@dataclass(frozen=True)
class Sign:
    """A worker and whether it has been heard of lately."""

    worker: str
    device: str
    problem: str | None
    alive: bool


def beat(
    session: Session, worker: str, *, device: str, problem: str | None, images_per_second: float | None = None
) -> None:
    seen = session.execute(
        update(Worker)
        .where(Worker.id == worker)
        .values(device=device, problem=problem, images_per_second=images_per_second, seen_at=now())
        .returning(Worker.id)
    ).all()
    if not seen:
        session.execute(
            insert(Worker).values(id=worker, device=device, problem=problem, started_at=now(), seen_at=now())
        )


def images_per_second(session: Session) -> float:
    """How fast the living workers are together, as far as they know it; 0 where none does."""
    alive = select(func.sum(Worker.images_per_second)).where(Worker.seen_at > now(-SILENT_SECONDS))
    return session.scalar(alive) or 0.0


def leave(session: Session, worker: str) -> None:
    session.execute(delete(Worker).where(Worker.id == worker))


def forget(session: Session) -> None:
    """Drop the rows of workers that were killed long ago."""
    session.execute(delete(Worker).where(Worker.seen_at < now(-_FORGOTTEN_SECONDS)))


def signs(session: Session) -> list[Sign]:
    """Return every worker that has not left, the silent ones too."""
    rows = session.execute(select(Worker, Worker.seen_at > now(-SILENT_SECONDS)).order_by(Worker.id))
    return [Sign(worker.id, worker.device, worker.problem, bool(alive)) for worker, alive in rows]
