"""The lease of a run: renewed by a thread of its own while the trainer works, and the place where it hears that it is to stop."""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db import audit, runs
from db.database import Database
from db.runs import LeaseLost, Run


class Stopped(Exception):
    """The run is to be cancelled, or this process is to end, or the run is no longer ours."""


class Lease(threading.Thread):
    """Renews the lease every third of it, and hears whether the run is to stop."""

    def __init__(self, database: Database, run: Run, seconds: int, stopping: threading.Event) -> None:
        super().__init__(name="lease", daemon=True)
        self._database = database
        self._run = run
        self._seconds = seconds
        self._stopping = stopping
        self._over = threading.Event()
        self.cancelling = False
        self._lost = False

    def run(self) -> None:
        while not self._over.wait(self._seconds / 3):
            with contextlib.suppress(DBAPIError):
                self._renew()

    def note(self, **progress: int) -> None:
        """Write down how far the run is; raises Stopped where it must not go on."""
        with contextlib.suppress(DBAPIError):
            self._renew(**progress)
        self.check()

    def note_with(self, session: Session, **progress: Any) -> None:
        """Write it down in this transaction, together with what was done. Raises LeaseLost: then neither is kept."""
        self.cancelling = runs.hold_on(session, self._run, lease_seconds=self._seconds, **progress)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is kept only while the run is ours. Raises LeaseLost."""
        with self._database.write() as session:
            audit.hold(session)  # first, as who cancels does: nobody waits for the other
            self.note_with(session)
            yield session

    def check(self) -> None:
        """Raise Stopped where the run must not go on."""
        if self._lost:
            raise Stopped("another trainer holds it")
        if self.cancelling:
            raise Stopped("it was cancelled")
        if self._stopping.is_set():
            raise Stopped("this process is to end")

    def end(self) -> None:
        self._over.set()
        self.join()

    def _renew(self, **progress: int) -> None:
        try:
            with self._database.write() as session:
                self.note_with(session, **progress)
        except LeaseLost:
            self._lost = True


@contextmanager
def holding(database: Database, run: Run, seconds: int, stopping: threading.Event) -> Iterator[Lease]:
    """Hold the run's lease while the block works on it."""
    lease = Lease(database, run, seconds, stopping)
    lease.start()
    try:
        yield lease
    finally:
        lease.end()
