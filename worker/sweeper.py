"""Every few seconds: say that this worker lives, take back what silent ones held, ring for what waits."""

import logging
import threading
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from db import heartbeats, queue
from db.database import Database
from worker.tickets import Tickets

log = logging.getLogger(__name__)


def sweep(database: Database, tickets: Tickets, *, worker: str) -> None:
    """Return expired leases to the queue and ring for every lane that holds work."""
    with database.write() as session:
        returned = queue.sweep(session, worker=worker)
    if returned:
        log.warning("%d images came back from silent workers", returned)
    with database.read() as session:
        waiting = queue.waiting(session)
    for lane, images in waiting.items():
        tickets.ring_again(lane, images)


class Sweeper(threading.Thread):
    """Sweeps at once, then after every pause, until it is told to stop."""

    def __init__(
        self,
        database: Database,
        tickets: Tickets,
        *,
        worker: str,
        device: str,
        seconds: float,
        problem: Callable[[], str | None],
    ) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._database = database
        self._tickets = tickets
        self._worker = worker
        self._device = device
        self._seconds = seconds
        self._problem = problem
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._database.write() as session:
                    heartbeats.beat(session, self._worker, device=self._device, problem=self._problem())
                sweep(self._database, self._tickets, worker=self._worker)
            except DBAPIError as error:
                log.warning("the database is away: %s", type(error.orig).__name__)
            except Exception:
                log.exception("this sweep failed, the next one is due")  # without sweeps nothing moves again
            self._stopped.wait(self._seconds)

    def stop(self) -> None:
        self._stopped.set()
