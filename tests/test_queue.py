"""The queue of record, on both databases."""

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, update
from sqlalchemy.exc import IntegrityError

from db import audit, batches, ending, leases, migrate, proof, queue, tenancy
from db.batches import Item
from db.chains import AuditRow
from db.clock import now
from db.database import Database
from db.identifiers import Identifiers
from db.queue import Claim, Failure, Fenced, Finding
from db.tables import BatchState, Image, ImageState, Label, Lane, Outcome, Result

pytestmark = pytest.mark.usefixtures("champion")


def item(number: int, code: str | None = None) -> Item:
    return Item(f"{number}.png", f"{number:064d}", 1, "image/png", code)


def submit(database: Database, count: int, lane: Lane = Lane.ROUTINE) -> str:
    with database.of(tenancy.DEFAULT).write() as session:
        return batches.add(session, [item(number) for number in range(count)], lane=lane, actor="test").id


def claim(database: Database, limit: int = 64, *, lane: Lane = Lane.ROUTINE, alone: bool = False) -> Claim | None:
    with database.write() as session:
        return queue.claim(session, lane, limit, lease_seconds=60, alone=alone)


def taken(database: Database, limit: int = 64, *, lane: Lane = Lane.ROUTINE, alone: bool = False) -> Claim:
    found = claim(database, limit, lane=lane, alone=alone)
    assert found
    return found


def finding(image: queue.Claimed, identifiers: Identifiers | None = None) -> Finding:
    return Finding(image, identifiers, "w" * 64, "grey128-1", 0.2, 0.3, 0.5, Label.NEGATIVE, (), 1.0, 1.0)


def finish(database: Database, held: Claim, failures: Sequence[Failure] = ()) -> None:
    failed = {failure.image.id for failure in failures}
    findings = [finding(image) for image in held.images if image.id not in failed]
    with database.write() as session:
        queue.finish(session, held, findings, failures, worker="w1")


def expire(database: Database) -> int:
    """Let every lease end, as if its worker had died, and sweep."""
    with database.write() as session:
        session.execute(update(Image).where(Image.state == ImageState.LEASED).values(lease_until=now(-1)))
    with database.write() as session:
        return leases.sweep(session, worker="sweeper")


def progress(database: Database, batch_id: str) -> batches.Progress:
    with database.read() as session:
        found = batches.progress(session, batch_id)
    assert found
    assert sum(found.counts.values()) == found.total
    return found


def is_busy(database: Database) -> bool:
    with database.read() as session:
        return queue.is_busy(session)


def test_the_line_is_busy_from_the_first_waiting_image_to_the_last_answer(database: Database) -> None:
    before = is_busy(database)
    submit(database, 2)
    waiting = is_busy(database)
    held = taken(database)
    working = is_busy(database)
    finish(database, held)
    assert (before, waiting, working, is_busy(database)) == (False, True, True, False)


def test_images_are_claimed_in_order_and_no_more_than_asked_for(database: Database) -> None:
    submit(database, 10)
    first, second = taken(database, 4), taken(database, 100)
    assert [image.sha256 for image in first.images] == [item(number).sha256 for number in range(4)]
    assert len(second.images) == 6
    assert claim(database) is None


def test_two_workers_never_hold_the_same_image(database: Database) -> None:
    submit(database, 200)
    held: list[int] = []

    def work() -> None:
        while found := claim(database, 7):
            held.extend(image.id for image in found.images)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == len(set(held)) == 200


def test_urgent_and_routine_are_claimed_apart(database: Database) -> None:
    submit(database, 3)
    urgent = submit(database, 2, Lane.URGENT)
    assert {image.batch_id for image in taken(database, lane=Lane.URGENT).images} == {urgent}
    assert claim(database, lane=Lane.URGENT) is None


def test_a_batch_is_completed_with_its_last_image(database: Database) -> None:
    batch_id = submit(database, 3)
    finish(database, taken(database, 2))
    assert progress(database, batch_id).state == BatchState.PROCESSING
    finish(database, taken(database, 2))
    done = progress(database, batch_id)
    assert (done.state, done.outcome, done.done) == (BatchState.COMPLETED, Outcome.ALL_CLASSIFIED, 3)


def test_the_last_images_finished_side_by_side_complete_the_batch(database: Database) -> None:
    """Each of two workers must see what the other did, or nobody closes the batch."""
    for _ in range(10):
        batch_id = submit(database, 2)
        claims = [taken(database, 1), taken(database, 1)]
        threads = [threading.Thread(target=finish, args=(database, held)) for held in claims]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert progress(database, batch_id).state == BatchState.COMPLETED


def test_a_rejected_image_leaves_its_neighbours_alone(database: Database) -> None:
    batch_id = submit(database, 3)
    held = taken(database)
    finish(database, held, [Failure(held.images[1], ImageState.REJECTED, "truncated")])
    done = progress(database, batch_id)
    assert (done.outcome, done.counts[ImageState.CLASSIFIED], done.counts[ImageState.REJECTED]) == (
        Outcome.PARTIAL,
        2,
        1,
    )


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


def test_what_a_reader_sees_is_of_one_moment(database: Database) -> None:
    with database.read() as session:
        before = audit.count(session)
        submit(database, 1)
        assert audit.count(session) == before


def test_identifiers_of_dicom_files_are_kept(database: Database) -> None:
    submit(database, 2)
    held = taken(database)
    known = Identifiers("1.2.3", "1.2.3.4", "A1")
    with database.write() as session:
        queue.finish(session, held, [finding(held.images[0], known), finding(held.images[1])], [], worker="w1")
    with database.read() as session:
        rows = session.execute(select(Image.study_uid, Image.accession).order_by(Image.id)).all()
    assert [tuple(row) for row in rows] == [("1.2.3", "A1"), (None, None)]


def test_every_submission_and_terminal_state_stands_in_the_audit(database: Database) -> None:
    batch_id = submit(database, 3)
    held = taken(database)
    finish(database, held, [Failure(held.images[0], ImageState.REJECTED, "truncated")])
    with database.read() as session:
        assert proof.verify(session).problem is None
        rows = session.execute(select(AuditRow.action).where(AuditRow.batch_id == batch_id).order_by(AuditRow.seq))
        actions = list(rows.scalars())
    assert actions[0] == "batch.submitted"
    assert actions[-1] == "batch.completed"
    assert sorted(actions[1:-1]) == ["image.classified", "image.classified", "image.rejected"]


def test_a_submission_that_is_rejected_at_the_door_is_completed_at_once(database: Database) -> None:
    with database.of(tenancy.DEFAULT).write() as session:
        batch_id = batches.add(session, [item(1, "truncated")], lane=Lane.ROUTINE, actor="test").id
    assert progress(database, batch_id).outcome == Outcome.NONE_CLASSIFIED


def test_the_database_refuses_what_cannot_be(database: Database) -> None:
    submit(database, 1)
    for nonsense in ({"state": "leased"}, {"state": "rejected"}, {"state": "eaten"}):
        with pytest.raises(IntegrityError), database.write() as session:
            session.execute(update(Image).values(**nonsense))


def test_a_probability_that_is_no_number_is_refused(database: Database) -> None:
    submit(database, 1)
    held = taken(database)
    wrong = Finding(held.images[0], None, "w", "p", float("nan"), float("nan"), 0.5, Label.NEGATIVE, (), 1.0, 1.0)
    with pytest.raises(IntegrityError), database.write() as session:
        queue.finish(session, held, [wrong], [], worker="w1")


def test_a_claim_reads_only_the_rows_that_wait(database: Database) -> None:
    """The partial index holds the claimable rows alone, so that the cost does not grow with the history."""
    submit(database, 1)
    words = "EXPLAIN QUERY PLAN " if database.url.startswith("sqlite") else "SET enable_seqscan = off; EXPLAIN "
    statement = (
        f"{words} SELECT id FROM images WHERE state = 'queued' AND lane = 'routine' AND alone = false "
        "ORDER BY id LIMIT 64"
    )
    with database.write() as session:
        for part in statement.split("; "):
            answer = session.connection().exec_driver_sql(part)
        plan = "\n".join(str(tuple(row)) for row in answer)
    assert "ix_images_claimable" in plan


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
