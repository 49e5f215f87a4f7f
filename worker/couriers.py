"""Delivers the outbox: takes what is due, sends it, stores how it went."""

import logging
import threading
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from db import webhooks
from db.database import Database
from worker import delivery
from worker.addresses import Network

log = logging.getLogger(__name__)

_LEASE_SECONDS = 90  # longer than a delivery can take, the resolver's patience included
_LOOK_SECONDS = 2.0
_COURIERS = 3  # so that one slow receiver does not hold up all others


class Couriers:
    """A few threads that deliver until they are stopped; what one leaves in mid-delivery is delivered again."""

    def __init__(self, database: Database, networks: Sequence[Network]) -> None:
        self._database = database
        self._networks = networks
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"courier-{number}", daemon=True) for number in range(_COURIERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take nothing more, and let what is under way end."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(delivery.DEADLINE_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            pause = _LOOK_SECONDS
            try:
                with self._database.read() as session:
                    due = webhooks.next_due(session)
                if due is not None and due <= 0 and self.deliver_one():
                    continue
                pause = _LOOK_SECONDS if due is None or due <= 0 else min(due, _LOOK_SECONDS)
            except DBAPIError as error:
                log.warning("the database is away: %s", type(error.orig).__name__)
            except Exception:
                log.exception("a delivery failed, the next one is due")
            self._stopped.wait(pause)

    def deliver_one(self) -> bool:
        """Deliver the message that is due for longest, and return whether there was one."""
        with self._database.write() as session:
            due = webhooks.claim(session, lease_seconds=_LEASE_SECONDS)
        if due is None:
            return False
        attempt = delivery.send(due, self._networks)
        with self._database.write() as session:
            state = webhooks.settle(session, due, status=attempt.status, error=attempt.error)
        log.info("%s, attempt %d: %s, %s", due.id, due.attempt, attempt.error or attempt.status, state)
        return True
