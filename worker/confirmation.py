"""The task that computes a result again; what it finds is a row of the audit, in the name of whoever asked."""

import logging
import threading

from celery import Celery

from db import audit, results
from db.audit import Entry
from worker import verification
from worker.tickets import VERIFY
from worker.verification import Bench

log = logging.getLogger(__name__)


def register(app: Celery, bench: Bench) -> None:
    """Teach a worker to verify, one result at a time, so that it takes little from the line."""
    alone = threading.Lock()

    def verify(result_id: str, actor: str, origin: str | None) -> None:
        with alone:
            with bench.database.read() as session:
                found = results.one(session, result_id)
            if found is None:
                log.warning("there is no result %s to verify", result_id)
                return
            told = verification.told(found, bench)
            entry = Entry("result.verified", result_id, found.result.batch_id, told)
            with audit.coming_from(origin), bench.database.write() as session:
                audit.append(session, actor, [entry])

    app.task(name=VERIFY)(verify)
