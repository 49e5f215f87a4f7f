"""The queue of record, on both databases."""

import threading

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from db import audit, batches, proof, queue, tenancy
from db.chains import AuditRow
from db.database import Database
from db.identifiers import Identifiers
from db.queue import Failure, Finding
from db.tables import BatchState, Image, ImageState, Label, Lane, Outcome
from tests.queueing import claim, finding, finish, item, progress, submit, taken

pytestmark = pytest.mark.usefixtures("champion")


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
