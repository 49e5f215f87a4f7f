"""What runs by the clock, in UTC; each task takes its slot first."""

import logging
from typing import Final

from celery import Celery
from celery.schedules import crontab

from db import audit, heartbeats, heatmaps, purging, slots
from db.blobs import Blobs
from db.database import Database
from worker.tickets import SCHEDULE_QUEUE

log = logging.getLogger(__name__)

TIDY: Final = "cxr.tidy"
VERIFY_AUDIT: Final = "cxr.verify_audit"
_HOUR, _DAY = 13, 10  # characters of an ISO time
_UPLOAD_IS_DEAD_SECONDS = 24 * 3600
_HEATMAP_IS_OLD_SECONDS = 3600

ENTRIES: Final = {
    "tidy": {"task": TIDY, "schedule": crontab(minute="17"), "options": {"queue": SCHEDULE_QUEUE}},
    "verify-audit": {
        "task": VERIFY_AUDIT,
        "schedule": crontab(hour="3", minute="0"),
        "options": {"queue": SCHEDULE_QUEUE},
    },
}


def register(app: Celery, database: Database, blobs: Blobs) -> None:
    """Teach a worker the scheduled tasks."""

    def tidy() -> None:
        """Remove what cut-off uploads and purges left on the disk, and the rows of workers that were killed."""
        if slots.take(database, TIDY, digits=_HOUR):
            with database.write() as session:
                heartbeats.forget(session)
            log.info("removed %d unfinished uploads", blobs.tidy(older_than_seconds=_UPLOAD_IS_DEAD_SECONDS))
            log.info("removed %d old heatmaps", heatmaps.tidy(blobs, older_than_seconds=_HEATMAP_IS_OLD_SECONDS))
            with database.read() as session:
                begun = purging.unfinished(session)
            for batch_id in begun:
                purging.remove(database, blobs, batch_id)

    def verify_audit() -> None:
        """Walk the whole audit chain and say aloud if it does not hold."""
        if not slots.take(database, VERIFY_AUDIT, digits=_DAY):
            return
        with database.read() as session:
            verdict = audit.verify(session)
        if verdict.problem:
            log.critical("the audit does not hold: %s", verdict.problem)
        else:
            log.info("the audit holds: %d rows", verdict.rows)

    app.task(name=TIDY)(tidy)
    app.task(name=VERIFY_AUDIT)(verify_audit)
