"""Leases, fences, strikes and trials: what silent workers held comes back, and nothing is done twice."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from db import ending, leases, migrate, queue
from db.clock import now
from db.database import Database
from db.queue import Fenced
from db.tables import BatchState, Image, ImageState, Outcome, Result
from tests.queueing import claim, expire, finish, progress, submit, taken

pytestmark = pytest.mark.usefixtures("champion")


def test_who_lost_the_lease_stores_nothing(database: Database) -> None:
    batch_id = submit(database, 2)
    late = taken(database)
    assert expire(database) == 2
    for _ in range(2):
        finish(database, taken(database, alone=True))
    with pytest.raises(Fenced):
        finish(database, late)
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Result)) == 2
    assert progress(database, batch_id).state == BatchState.COMPLETED


def test_finishing_twice_is_fenced(database: Database) -> None:
    submit(database, 2)
    held = taken(database)
    finish(database, held)
    with pytest.raises(Fenced):
        finish(database, held)


def test_images_of_a_dead_worker_come_back_to_be_worked_on_alone(database: Database) -> None:
    submit(database, 3)
    taken(database)
    assert expire(database) == 3
    assert claim(database, alone=False) is None
    assert len(taken(database, 64, alone=True).images) == 1
    with database.read() as session:
        assert session.scalars(select(Image.strikes)).all() == [0, 0, 0]  # held together: nobody is to blame yet


def test_an_image_that_comes_to_no_end_at_all_is_quarantined(database: Database) -> None:
    batch_id = submit(database, 1)
    assert not taken(database).on_trial
    for strikes in range(leases.MOST_STRIKES):
        expire(database)
        assert progress(database, batch_id).state == BatchState.PROCESSING
        assert taken(database, alone=True).on_trial == (strikes >= 3)
    assert expire(database) == 1
    done = progress(database, batch_id)
    assert (done.state, done.outcome) == (BatchState.COMPLETED, Outcome.NONE_CLASSIFIED)
    assert done.counts[ImageState.QUARANTINED] == 1


def test_of_two_suspects_the_less_suspected_is_taken_first(database: Database) -> None:
    submit(database, 2)
    taken(database)
    expire(database)
    (first,) = taken(database, alone=True).images
    expire(database)
    (second,) = taken(database, alone=True).images
    assert second.id > first.id


def test_a_lease_that_runs_is_not_swept(database: Database) -> None:
    submit(database, 1)
    taken(database)
    with database.write() as session:
        assert leases.sweep(session, worker="sweeper") == 0


def test_a_claim_that_is_given_back_can_be_claimed_again_together(database: Database) -> None:
    submit(database, 3)
    held = taken(database)
    with database.write() as session:
        queue.give_back(session, held, worker="w1")
    assert len(taken(database).images) == 3


def test_a_lease_that_is_held_on_to_does_not_run_out(database: Database) -> None:
    submit(database, 2)
    held = taken(database)
    with database.write() as session:
        session.execute(update(Image).values(lease_until=now(-1)))
        queue.hold_on(session, held, lease_seconds=60)
    with database.write() as session:
        assert leases.sweep(session, worker="sweeper") == 0
    finish(database, held)


def test_a_sweep_reads_no_closed_batch_on_sqlite(tmp_path: Path) -> None:
    """Its cost must not grow with the history; a partial index would not do, SQLite uses none for bound values."""
    with closing(Database(f"sqlite:///{tmp_path / 'plan.db'}")) as database:
        migrate.upgrade(database)
        asked: list[tuple[str, Any]] = []
        event.listen(database.engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
        with database.write() as session:
            leases.sweep(session, worker="sweeper")
            ending.stop_leftovers(session, worker="sweeper")
            ending.expire(session, worker="sweeper")
        with closing(sqlite3.connect(tmp_path / "plan.db")) as connection:
            plans = [
                row[3]
                for statement, values in asked
                if statement.startswith(("SELECT", "UPDATE"))
                for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)
            ]
    assert any("ix_batches_state_expires_at" in plan for plan in plans)
    assert [plan for plan in plans if plan.startswith(("SCAN batches", "SCAN images")) and "INDEX" not in plan] == []
