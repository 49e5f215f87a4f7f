"""What runs by the clock: each task does its work once for each slot, and says aloud what does not hold."""

import logging
from datetime import timedelta
from pathlib import Path

import pytest
from celery import Celery
from sqlalchemy import delete, select

from db import audit, clock
from db.audit import Entry
from db.blobs import Blobs
from db.chains import AuditRow
from db.database import Database
from db.heads import Heads
from db.retention import Keep
from db.slots import Slot
from db.tenancy import SYSTEM
from tests.test_heads import add, cut, kept
from worker import schedule
from worker.schedule import Clockwork


@pytest.fixture
def heads(tmp_path: Path) -> Heads:
    return Heads(tmp_path / "audit")


@pytest.fixture
def app(database: Database, blobs: Blobs, heads: Heads) -> Celery:
    app = Celery("test", broker="memory://")
    schedule.register(app, Clockwork(database, blobs, heads, Keep(audit=1)))
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


def test_what_was_kept_long_enough_is_retired_by_the_clock(
    app: Celery, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        read = clock.read
        earlier.setattr(clock, "read", lambda session: read(session) - timedelta(days=3))
        add(database, 4)
    add(database, 2)
    due(app, database, schedule.RETIRE)
    with database.read() as session:
        assert list(session.scalars(select(AuditRow.seq).where(AuditRow.tenant == SYSTEM))) == [5, 6, 7]
    due(app, database, schedule.VERIFY_AUDIT)
