"""The task that computes a result again; what it finds is a row of the audit, beside the row that asked for it."""

import logging
import queue
import threading

from celery import Celery

from db import confirmation, results
from worker import verification
from worker.tickets import VERIFY
from worker.verification import Bench

log = logging.getLogger(__name__)

_MOST_WAITING = 100


class Confirmations(threading.Thread):
    """Verifies one result at a time, beside the threads of the line, so that it never stands in a ticket's way."""

    def __init__(self, bench: Bench, *, worker: str) -> None:
        super().__init__(name="confirmations", daemon=True)
        self._bench = bench
        self._worker = worker
        self._waiting: queue.Queue[tuple[str, int]] = queue.Queue(_MOST_WAITING)

    def register(self, app: Celery) -> None:
        """Teach the worker the task."""

        def verify(result_id: str, asked: int) -> None:
            try:
                self._waiting.put_nowait((result_id, asked))
            except queue.Full:
                log.warning("too many results wait to be verified; ask for %s again", result_id)

        app.task(name=VERIFY)(verify)

    def run(self) -> None:
        while True:
            result_id, asked = self._waiting.get()
            try:
                self._verify(result_id, asked)
            except Exception:
                log.exception("%s was not verified", result_id)

    def _verify(self, result_id: str, asked: int) -> None:
        """A ticket alone is no request: whoever can write to the broker could have made it."""
        with self._bench.database.read() as session:
            found = results.one(session, result_id)
            if found is None or not confirmation.was_asked(session, found, asked):
                log.warning("nobody asked for %s to be verified", result_id)
                return
        told = verification.told(found, self._bench)
        with self._bench.database.write() as session:
            confirmation.keep(session, found, self._worker, told, asked=asked)
