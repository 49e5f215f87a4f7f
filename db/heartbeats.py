"""Signs of life: one row per worker process."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Text, delete, insert, select, update
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
    started_at: Mapped[datetime] = mapped_column(Moment)
    seen_at: Mapped[datetime] = mapped_column(Moment)


@dataclass(frozen=True)
class Sign:
    """A worker and whether it has been heard of lately."""

    worker: str
    device: str
    problem: str | None
    alive: bool


def beat(session: Session, worker: str, *, device: str, problem: str | None) -> None:
    seen = session.execute(
        update(Worker)
        .where(Worker.id == worker)
        .values(device=device, problem=problem, seen_at=now())
        .returning(Worker.id)
    ).all()
    if not seen:
        session.execute(
            insert(Worker).values(id=worker, device=device, problem=problem, started_at=now(), seen_at=now())
        )


def leave(session: Session, worker: str) -> None:
    session.execute(delete(Worker).where(Worker.id == worker))


def forget(session: Session) -> None:
    """Drop the rows of workers that were killed long ago."""
    session.execute(delete(Worker).where(Worker.seen_at < now(-_FORGOTTEN_SECONDS)))


def signs(session: Session) -> list[Sign]:
    """Return every worker that has not left, the silent ones too."""
    rows = session.execute(select(Worker, Worker.seen_at > now(-SILENT_SECONDS)).order_by(Worker.id))
    return [Sign(worker.id, worker.device, worker.problem, bool(alive)) for worker, alive in rows]
