"""A champion-to-be is loaded and tried in a running worker before it becomes champion; else the old one stays."""

import logging

from sqlalchemy.exc import DBAPIError

from db import promotions, verdicts
from db.database import Database
from worker import golden
from worker.decision import ModelUnusable
from worker.models import Models

log = logging.getLogger(__name__)


class Succession:
    """Looks for a promotion that waits; batches keep the version that they were submitted with."""

    def __init__(self, database: Database, models: Models, *, worker: str) -> None:
        self._database = database
        self._models = models
        self._worker = worker

    def look(self) -> None:
        """Try the version that waits, if one does, and settle its promotion."""
        with self._database.read() as session:
            waiting = promotions.pending(session)
            recorded = verdicts.golden(session, waiting.version) if waiting else []
        if waiting is None:
            return
        problem = self._problem(waiting.version, recorded)
        with self._database.write() as session:
            first = promotions.settle(session, waiting.id, problem=problem, worker=self._worker)
        if first and problem:
            log.critical("%s does not become champion, the old one stays: %s", waiting.version, problem)
        elif first:
            log.info("%s is the champion from now on", waiting.version)

    def look_again(self) -> None:
        """The same, where a failure must not end the caller."""
        try:
            self.look()
        except DBAPIError as error:
            log.warning("the database is away: %s", type(error.orig).__name__)

    def _problem(self, version: str, recorded: list[float]) -> str | None:
        """Why it cannot be champion here, or None: its SHA-256 holds, it loads, and the golden pictures come out."""
        try:
            golden.check(self._models.get(version).predictor, version, recorded)  # it may have been loaded before
        except ModelUnusable as error:
            return str(error)
        except Exception as error:
            log.exception("the self-test of %s failed", version)
            return f"its self-test failed: {type(error).__name__}"
        return None
