"""What runs by the clock, in UTC; each task takes its slot first."""

import logging
from typing import Any, Final

from celery import Celery
from celery.schedules import crontab

from db import audit, heartbeats, heatmaps, idempotency, purging, sign_ins, slots
from db.blobs import Blobs
from db.database import Database
from db.heads import Heads, HeadUnusable, hashes
from settings import Settings
from worker.tickets import RETRAIN, RETRAINING_QUEUE, SCHEDULE_QUEUE

log = logging.getLogger(__name__)

TIDY: Final = "cxr.tidy"
VERIFY_AUDIT: Final = "cxr.verify_audit"
SIGN_AUDIT: Final = "cxr.sign_audit"
_MINUTE, _HOUR, _DAY = 16, 13, 10  # characters of an ISO time
_UPLOAD_IS_DEAD_SECONDS = 24 * 3600
_HEATMAP_IS_OLD_SECONDS = 3600

ENTRIES: Final = {
    "tidy": {"task": TIDY, "schedule": crontab(minute="17"), "options": {"queue": SCHEDULE_QUEUE}},
    "sign-audit": {
        "task": SIGN_AUDIT,
        "schedule": crontab(minute="*/5"),
        "options": {"queue": SCHEDULE_QUEUE},
    },
    "verify-audit": {
        "task": VERIFY_AUDIT,
        "schedule": crontab(hour="3", minute="0"),
        "options": {"queue": SCHEDULE_QUEUE},
    },
}


def entries(settings: Settings) -> dict[str, Any]:
    """Return what beat sends: the standing tasks, and a retraining run where its times are set."""
    if not settings.retrain_cron:
        return dict(ENTRIES)
    times = crontab.from_string(settings.retrain_cron)
    return ENTRIES | {"retrain": {"task": RETRAIN, "schedule": times, "options": {"queue": RETRAINING_QUEUE}}}


def register(app: Celery, database: Database, blobs: Blobs, heads: Heads) -> None:
    """Teach a worker the scheduled tasks."""

    def tidy() -> None:
        """Remove what cut-off uploads and purges left on the disk, and the rows of workers that were killed."""
        if slots.take(database, TIDY, digits=_HOUR):
            with database.write() as session:
                heartbeats.forget(session)
                idempotency.forget(session)
                sign_ins.forget(session)
            log.info("removed %d unfinished uploads", blobs.tidy(older_than_seconds=_UPLOAD_IS_DEAD_SECONDS))
            log.info("removed %d old heatmaps", heatmaps.tidy(blobs, older_than_seconds=_HEATMAP_IS_OLD_SECONDS))
            with database.read() as session:
                begun = purging.unfinished(session)
            for batch_id in begun:
                purging.remove(database, blobs, batch_id)

    def sign_audit() -> None:
        """Sign where the audit ends, and keep that outside the database."""
        if slots.take(database, SIGN_AUDIT, digits=_MINUTE):
            with database.read() as session:
                heads.sign(session)

    def verify_audit() -> None:
        """Walk the whole audit chain, compare it with what was signed, and say aloud if it does not hold."""
        if not slots.take(database, VERIFY_AUDIT, digits=_DAY):
            return
        try:
            signed = hashes(heads.kept())
            with database.read() as session:
                verdict = audit.verify(session, signed)
        except HeadUnusable as error:
            log.critical("the audit cannot be verified: %s", error)
            return
        if verdict.problem:
            log.critical("the audit does not hold: %s", verdict.problem)
        else:
            log.info("the audit holds: %d rows, %d signed heads", verdict.rows, len(signed))

    app.task(name=TIDY, shared=False)(tidy)
    app.task(name=SIGN_AUDIT, shared=False)(sign_audit)
    app.task(name=VERIFY_AUDIT, shared=False)(verify_audit)
