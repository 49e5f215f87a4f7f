"""Signs of life: one row per worker process."""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from db.clock import now
from db.tables import Worker

SILENT_SECONDS = 120
_FORGOTTEN_SECONDS = 24 * 3600


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
