"""What a fault works with: the field, the load, the dice of its seed, and a notebook for recoveries."""

import dataclasses
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.heartbeats import Worker
from db.tables import Image, ImageState
from tests.chaos.field import Field
from tests.chaos.load import Load
from tests.service import until

_WORK_SECONDS = 60
_MOMENT_SECONDS = 0.4
_MANY = 12  # more than one claim
_OTHERS_SECONDS = 0.6  # longer than a worker of this harness holds a claim
_TRIES = 40


@dataclass
class Scene:
    """One run of one fault."""

    field: Field
    load: Load
    dice: random.Random
    before: set[Path]
    poisoned: set[str] = dataclasses.field(default_factory=set)
    cancelled: set[str] = dataclasses.field(default_factory=set)
    purged: set[str] = dataclasses.field(default_factory=set)
    recoveries: list[float] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    _held: list[tuple[datetime, dict[int, int]]] = dataclasses.field(default_factory=list)
    _moves: list[datetime] = dataclasses.field(default_factory=list)

    def worker(self) -> str:
        return self.dice.choice(self.field.workers())

    def wait_for_work(self) -> None:
        """Until images are leased, and for a moment until many are, so that the fault meets work under way."""
        soon = time.monotonic() + _MOMENT_SECONDS

        def busy() -> bool:
            leased = len(self.field.held()[1])
            return leased >= _MANY or (leased > 0 and time.monotonic() > soon)

        until(busy, "images are leased", seconds=_WORK_SECONDS)

    def catch_at_work(self, worker: str) -> None:
        """Stop it (SIGSTOP) at a moment at which it holds images: those that the others hold are finished soon."""
        for _ in range(_TRIES):
            self.wait_for_work()
            self.field.kill(worker, signal.SIGSTOP)
            _, before = self.field.held()
            time.sleep(_OTHERS_SECONDS)
            _, after = self.field.held()
            if before.items() & after.items():
                return
            self.field.kill(worker, signal.SIGCONT)
        raise AssertionError(f"{worker} was never seen to hold an image")

    def wait_for(self, worker: str) -> None:
        """Until the process of this worker has given its first sign of life."""
        mine = f"-{self.field.pid(worker)}-"

        def heard_of() -> bool:
            with self.field.database.read() as session:
                return any(mine in name for name in session.scalars(select(Worker.id)))

        until(heard_of, f"{worker} is heard of")

    def mark_held(self) -> None:
        """Recovery counts from now until all that is leased now, and must be claimed again, is finished."""
        self._held.append(self.field.held())

    def mark_moves(self) -> None:
        """Recovery counts from now until the next image is finished."""
        since, _ = self.field.held()
        self._moves.append(since)

    def done(self, batch_id: str) -> int:
        """How many of the batch's images are classified."""
        with self.field.database.read() as session:
            query = select(func.count()).where(Image.batch_id == batch_id, Image.state == ImageState.CLASSIFIED)
            return session.scalars(query).one()

    def finished(self) -> int:
        """How many images of all batches have come to their end."""
        with self.field.database.read() as session:
            return session.scalars(select(func.count(Image.finished_at))).one()

    def measured(self) -> list[float]:
        """Seconds that each recovery took, by the database's clock; a fault that met no work has none."""
        with self.field.database.read() as session:
            return [*self.recoveries, *_of_held(session, self._held), *_of_moves(session, self._moves)]


def _of_held(session: Session, held: list[tuple[datetime, dict[int, int]]]) -> Iterator[float]:
    for since, attempts in held:
        rows = session.execute(select(Image.id, Image.attempts, Image.finished_at).where(Image.id.in_(attempts)))
        again = [row.finished_at for row in rows if row.attempts > attempts[row.id] and row.finished_at]
        if again:
            yield max((max(again) - since).total_seconds(), 0)


def _of_moves(session: Session, moves: list[datetime]) -> Iterator[float]:
    for since in moves:
        moved = session.scalar(select(func.min(Image.finished_at)).where(Image.finished_at > since))
        if moved:
            yield (moved - since).total_seconds()
