"""Parts of the promise that can be switched off, to see that the harness notices."""

import os
from typing import Any

from sqlalchemy import insert, text, update

from db import audit, clock, leases, queue, states
from db.blobs import Blobs
from db.clock import now
from db.database import Database
from db.tables import Image, ImageState, Result
from worker.tickets import Tickets

SWITCH = "CHAOS_OFF"
NOTHING = "nothing"
"""The control: judged like the others, and whole."""
_YEAR_SECONDS = 365 * 24 * 3600


def switch_off() -> None:
    """Switch off what the environment names."""
    name = os.environ.get(SWITCH)
    if name and name != NOTHING:
        OFF[name]()


def _sweeper() -> None:
    leases.sweep = lambda *_, **__: 0


def _ring() -> None:
    """Each ticket is sent once."""
    Tickets.ring_again = lambda *_: None  # type: ignore[method-assign]


def _lease() -> None:
    """A claim is for good."""
    claim = queue.claim
    queue.claim = lambda *given, **more: claim(*given, **more | {"lease_seconds": _YEAR_SECONDS})
    leases.LONGEST_LEASE_SECONDS = _YEAR_SECONDS


def _fsync() -> None:
    class Done:
        def result(self) -> None: ...

        def exception(self) -> None: ...

    def sync(_blobs: Blobs, file: Any) -> Done:
        file.close()
        return Done()

    Blobs.sync = sync  # type: ignore[assignment, method-assign]
    os.fsync = lambda _descriptor: None  # type: ignore[assignment]


def _fence() -> None:
    """Whoever comes to the end of its work stores it, whatever happened meanwhile."""

    def finish(session: Any, claim: Any, findings: Any, failures: Any, *, worker: str) -> None:
        for found in [*findings, *failures]:
            state = ImageState.CLASSIFIED if found in findings else found.state
            values = {"state": state, "code": getattr(found, "code", None), "lease_token": None, "lease_until": None}
            session.execute(update(Image).where(Image.id == found.image.id).values(**values, finished_at=now()))
        rows = [queue.row_of(found, worker, clock.read(session)) for found in findings]
        session.execute(insert(Result), rows)
        entries = [queue._classified(found, row) for found, row in zip(findings, rows, strict=True)]
        audit.append(session, worker, entries + [queue._failed(failure) for failure in failures])
        states.close_finished(session, worker, {image.batch_id for image in claim.images})

    queue.finish = finish


def without_unique_results(database: Database) -> None:
    """The tables would refuse a second result; without them the fence stands alone (PostgreSQL)."""
    with database.write() as session:
        session.execute(text("ALTER TABLE results DROP CONSTRAINT uq_results_image_id_model_version"))


OFF = {"sweeper": _sweeper, "ring": _ring, "lease": _lease, "fsync": _fsync, "fence": _fence}
