"""What runs by the clock: each task does its work once for each slot, and says aloud what does not hold."""

import logging
from pathlib import Path

import pytest
from celery import Celery
from sqlalchemy import delete

from db import audit
from db.audit import Entry
from db.blobs import Blobs
from db.database import Database
from db.heads import Heads
from db.slots import Slot
from tests.test_heads import add, cut, kept
from worker import schedule


@pytest.fixture
def heads(tmp_path: Path) -> Heads:
    return Heads(tmp_path / "audit")


@pytest.fixture
def app(database: Database, blobs: Blobs, heads: Heads) -> Celery:
    app = Celery("test", broker="memory://")
    schedule.register(app, database, blobs, heads)
    return app


def due(app: Celery, database: Database, task: str) -> None:
    """Run the task in a slot that nobody has taken."""
    with database.write() as session:
        session.execute(delete(Slot))
    app.tasks[task]()


def test_every_scheduled_task_is_one_that_workers_know(app: Celery) -> None:
    assert {entry["task"] for entry in schedule.ENTRIES.values()} <= set(app.tasks)


def test_the_head_is_signed_by_the_clock(app: Celery, database: Database, heads: Heads) -> None:
    add(database)
    app.tasks[schedule.SIGN_AUDIT]()
    app.tasks[schedule.SIGN_AUDIT]()
    assert kept(heads) == [3]
    add(database)
    due(app, database, schedule.SIGN_AUDIT)
    assert kept(heads) == [3, 6]


def test_a_night_that_finds_a_cut_chain_says_so_aloud(
    app: Celery, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    add(database)
    due(app, database, schedule.SIGN_AUDIT)
    with caplog.at_level(logging.INFO):
        due(app, database, schedule.VERIFY_AUDIT)
    assert "the audit holds: 3 rows, 2 signed heads" in caplog.text
    cut(database, 2)
    with database.write() as session:
        audit.append(session, "nobody", [Entry("thing.done", "thing", None, {})])
    due(app, database, schedule.VERIFY_AUDIT)
    loud = [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL]
    assert loud == ["the audit does not hold: *: row 3 is not the one that was signed"]
