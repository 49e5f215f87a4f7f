"""Every few seconds: say that this worker lives, take back what silent ones held, ring for what waits."""

import logging
import os
import threading
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from db import ending, heartbeats, leases, queue
from db.database import Database
from worker.pace import Pace
from worker.tickets import Tickets

log = logging.getLogger(__name__)

_AFTER_THE_END_SECONDS = 0.5


def sweep(database: Database, tickets: Tickets, *, worker: str) -> None:
    """Return expired leases to the queue, give up overdue batches, and ring for every lane that holds work."""
    with database.write() as session:
        returned = leases.sweep(session, worker=worker)
    if returned:
        log.warning("%d images came back from silent workers", returned)
    with database.write() as session:
        ending.stop_leftovers(session, worker=worker)
        expired = ending.expire(session, worker=worker)
    if expired:
        log.warning("%d images had not begun when their batch's time was over", expired)
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
        hangs: Callable[[], bool],
        pace: Pace,
        also: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._database = database
        self._tickets = tickets
        self._worker = worker
        self._device = device
        self._seconds = seconds
        self._problem = problem
        self._hangs = hangs
        self._pace = pace
        self._also = also
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            if self._hangs():
                log.critical("a prediction does not end: this worker ends, to be started again")
                os._exit(os.EX_SOFTWARE)  # nothing else stops a thread that hangs in a C library
            try:
                with self._database.write() as session:
                    heartbeats.beat(
                        session,
                        self._worker,
                        device=self._device,
                        problem=self._problem(),
                        images_per_second=self._pace.images_per_second(),
                    )
                sweep(self._database, self._tickets, worker=self._worker)
                self._also()
            except DBAPIError as error:
                log.warning("the database is away: %s", type(error.orig).__name__)
            except Exception:
                log.exception("this sweep failed, the next one is due")  # without sweeps nothing moves again
            self._stopped.wait(self._pause())

    def _pause(self) -> float:
        """Until the next sweep, or only until a lease ends: a dead worker's images need not wait longer."""
        try:
            with self._database.read() as session:
                ends = leases.next_end(session)
        except DBAPIError:
            ends = None
        return self._seconds if ends is None else min(self._seconds, max(ends, 0) + _AFTER_THE_END_SECONDS)

    def stop(self) -> None:
        self._stopped.set()
