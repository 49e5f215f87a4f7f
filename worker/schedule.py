"""What runs by the clock, in UTC; each task takes its slot first."""

import logging
from dataclasses import dataclass
from typing import Any, Final

from celery import Celery
from celery.schedules import crontab

from db import heartbeats, heatmaps, idempotency, proof, pruning, purging, retention, sign_ins, slots
from db.blobs import Blobs
from db.database import Database
from db.heads import Heads, HeadUnusable, hashes, vouch
from db.retention import Keep
from settings import Settings
from worker.tickets import RETRAIN, RETRAINING_QUEUE, SCHEDULE_QUEUE

log = logging.getLogger(__name__)

TIDY: Final = "cxr.tidy"
VERIFY_AUDIT: Final = "cxr.verify_audit"
RETIRE: Final = "cxr.retire"
SIGN_AUDIT: Final = "cxr.sign_audit"
_MINUTE, _HOUR, _DAY = 16, 13, 10  # characters of an ISO time
_UPLOAD_IS_DEAD_SECONDS = 24 * 3600
_HEATMAP_IS_OLD_SECONDS = 3600

ENTRIES: Final = {
    "tidy": {"task": TIDY, "schedule": crontab(minute="17"), "options": {"queue": SCHEDULE_QUEUE}},
    "retire": {"task": RETIRE, "schedule": crontab(hour="2", minute="30"), "options": {"queue": SCHEDULE_QUEUE}},
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


@dataclass(frozen=True)
class Clockwork:
    """The scheduled tasks with what they need."""

    database: Database
    blobs: Blobs
    heads: Heads
    keep: Keep

    def tidy(self) -> None:
        """Remove what cut-off uploads and purges left on the disk, and the rows of workers that were killed."""
        if slots.take(self.database, TIDY, digits=_HOUR):
            with self.database.write() as session:
                heartbeats.forget(session)
                idempotency.forget(session)
                sign_ins.forget(session)
            log.info("removed %d unfinished uploads", self.blobs.tidy(older_than_seconds=_UPLOAD_IS_DEAD_SECONDS))
            log.info("removed %d old heatmaps", heatmaps.tidy(self.blobs, older_than_seconds=_HEATMAP_IS_OLD_SECONDS))
            with self.database.read() as session:
                begun = purging.unfinished(session)
            for batch_id in begun:
                purging.remove(self.database, self.blobs, batch_id)

    def retire(self) -> None:
        """Remove what was kept long enough."""
        if slots.take(self.database, RETIRE, digits=_DAY):
            images = retention.purge_images(self.database, self.blobs, self.keep.images)
            results = retention.purge_results(self.database, self.keep.results)
            rows = pruning.prune(self.database, self.heads, self.keep.audit)
            log.info("retired images of %d batches, results of %d, %d rows of the audit", images, results, rows)

    def sign_audit(self) -> None:
        """Sign where the audit ends, and keep that outside the database."""
        if slots.take(self.database, SIGN_AUDIT, digits=_MINUTE):
            with self.database.read() as session:
                self.heads.sign(session)

    def verify_audit(self) -> None:
        """Walk the whole audit, compare it with what was signed, and say aloud if it does not hold."""
        if not slots.take(self.database, VERIFY_AUDIT, digits=_DAY):
            return
        try:
            signed = hashes(self.heads.kept())
            with self.database.read() as session:
                verdict = proof.verify(session, signed)
            vouch(verdict, self.heads.public)
        except HeadUnusable as error:
            log.critical("the audit cannot be verified: %s", error)
            return
        if verdict.problem:
            log.critical("the audit does not hold: %s", verdict.problem)
        else:
            log.info("the audit holds: %d rows, %d signed heads", verdict.rows, len(signed))


def register(app: Celery, works: Clockwork) -> None:
    """Teach a worker the scheduled tasks."""
    tasks = {TIDY: works.tidy, RETIRE: works.retire, SIGN_AUDIT: works.sign_audit, VERIFY_AUDIT: works.verify_audit}
    for name, task in tasks.items():
        app.task(name=name, shared=False)(task)
