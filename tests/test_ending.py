"""Cancelled, expired, retried, purged: on both databases."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import select, text, update

from db import batches, clock, ending, leases, migrate, proof, purging, queue, registry, tables, tenancy
from db.batches import Item
from db.blobs import Blobs
from db.chains import AuditRow
from db.clock import now
from db.database import Database
from db.queue import Failure
from db.tables import Batch, BatchState, Image, ImageState, Lane, Outcome, Result
from tests.postgres import Postgres
from tests.queueing import claim, expire, finding, finish, progress, submit, taken
from tests.service import CARD


@pytest.fixture(autouse=True)
def _champion(request: pytest.FixtureRequest) -> None:
    if "database" in request.fixturenames:
        request.getfixturevalue("champion")


def change(database: Database, batch_id: str, what: Callable[..., object], **more: object) -> None:
    with database.write() as session:
        what(session, batches.find(session, batch_id), actor="test", **more)


def cancel(database: Database, batch_id: str) -> None:
    change(database, batch_id, ending.cancel)


def retry(database: Database, batch_id: str) -> None:
    change(database, batch_id, ending.retry, expire_seconds=60)


def overdue(database: Database, batch_id: str) -> int:
    """Let the batch's time be over, and sweep it away."""
    with database.write() as session:
        session.execute(update(Batch).where(Batch.id == batch_id).values(expires_at=now(-1)))
    with database.write() as session:
        return ending.expire(session, worker="sweeper")


def actions(database: Database, batch_id: str) -> list[str]:
    with database.read() as session:
        assert proof.verify(session).problem is None
        return list(
            session.scalars(select(AuditRow.action).where(AuditRow.batch_id == batch_id).order_by(AuditRow.seq))
        )


def test_a_batch_that_is_cancelled_before_it_began_ends_at_once(database: Database) -> None:
    batch_id = submit(database, 3)
    cancel(database, batch_id)
    found = progress(database, batch_id)
    assert (found.state, found.counts[ImageState.CANCELLED]) == (BatchState.CANCELLED, 3)
    assert claim(database) is None
    assert actions(database, batch_id) == ["batch.submitted", "batch.cancelling", *["image.cancelled"] * 3,
                                           "batch.cancelled"]  # fmt: skip


def test_what_is_held_while_its_batch_is_cancelled_is_finished_and_kept(database: Database) -> None:
    batch_id = submit(database, 3)
    held = taken(database, 1)
    cancel(database, batch_id)
    assert progress(database, batch_id).state == BatchState.CANCELLING
    finish(database, held)
    done = progress(database, batch_id)
    assert (done.state, done.counts[ImageState.CLASSIFIED], done.counts[ImageState.CANCELLED]) == ("cancelled", 1, 2)


@pytest.mark.parametrize("how", ["dies", "gives back"])
def test_what_comes_back_to_a_cancelled_batch_is_cancelled(database: Database, how: str) -> None:
    batch_id = submit(database, 2)
    held = taken(database)
    cancel(database, batch_id)
    if how == "dies":
        expire(database)
    else:
        with database.write() as session:
            queue.give_back(session, held, worker="w1")
    assert progress(database, batch_id).state == BatchState.CANCELLED
    assert claim(database, alone=True) is None


def test_an_image_whose_claim_fell_through_while_its_batch_was_cancelled_is_cancelled_later(database: Database) -> None:
    batch_id = submit(database, 2)
    with database.write() as session:
        session.execute(update(Batch).values(state=BatchState.CANCELLING))
        assert ending.stop_leftovers(session, worker="sweeper") == 2
    assert progress(database, batch_id).state == BatchState.CANCELLED


def test_cancelling_again_does_no_harm(database: Database) -> None:
    batch_id = submit(database, 2)
    held = taken(database, 1)
    cancel(database, batch_id)
    cancel(database, batch_id)
    finish(database, held)
    assert actions(database, batch_id).count("batch.cancelling") == 1


def test_a_batch_can_be_cancelled_while_its_results_are_being_stored(postgresql: Postgres) -> None:
    """PostgreSQL: a foreign key locks the batch's row, and the chain is taken in the other order."""
    url = postgresql.database()
    with closing(Database(url)) as database:
        prepare(database)
        batch_id = submit(database, 1)
        held = taken(database)
        with database.write() as session:
            tables.insert_rows(session, Result, [queue.row_of(finding(held.images[0]), "w1", clock.read(session))])
            with database.write() as other:
                other.execute(text("SET LOCAL lock_timeout = '3s'"))
                assert batches.find(other, batch_id)
            session.rollback()
    postgresql.drop(url)


def prepare(database: Database) -> None:
    migrate.upgrade(database)
    with TemporaryDirectory() as directory, database.write() as session:
        registry.register(session, Blobs(Path(directory)), CARD, b"weights", actor="test")
        registry.appoint(session, registry.CHAMPION, CARD.version, actor="test")


def test_a_closed_batch_cannot_be_cancelled_and_an_open_one_not_retried(database: Database) -> None:
    batch_id = submit(database, 1)
    with pytest.raises(ending.BatchOpen):
        retry(database, batch_id)
    finish(database, taken(database))
    with pytest.raises(ending.BatchClosed):
        cancel(database, batch_id)
    with pytest.raises(ending.NothingToRetry):
        retry(database, batch_id)
    assert progress(database, batch_id).outcome == Outcome.ALL_CLASSIFIED


def test_a_cancelled_batch_runs_again_under_the_same_id(database: Database) -> None:
    batch_id = submit(database, 2)
    finish(database, taken(database, 1))
    cancel(database, batch_id)
    retry(database, batch_id)
    again = taken(database)
    assert len(again.images) == 1
    finish(database, again)
    assert progress(database, batch_id).outcome == Outcome.ALL_CLASSIFIED


def test_a_quarantined_image_is_retried_and_a_rejected_one_stays(database: Database) -> None:
    batch_id = submit(database, 3)
    held = taken(database)
    bad = [
        Failure(held.images[0], ImageState.QUARANTINED, "worker_died"),
        Failure(held.images[1], ImageState.REJECTED, "truncated"),
    ]
    finish(database, held, bad)
    retry(database, batch_id)
    assert claim(database) is None, "what ended a worker is worked on alone"
    again = taken(database, alone=True)
    assert [image.id for image in again.images] == [held.images[0].id]
    finish(database, again)
    done = progress(database, batch_id)
    assert (done.outcome, done.counts[ImageState.REJECTED], done.counts[ImageState.CLASSIFIED]) == ("partial", 1, 2)


def test_what_no_worker_has_begun_in_time_expires(database: Database) -> None:
    batch_id = submit(database, 3)
    held = taken(database, 1)
    assert overdue(database, batch_id) == 2
    assert progress(database, batch_id).state == BatchState.PROCESSING
    finish(database, held)
    assert progress(database, batch_id).state == BatchState.EXPIRED
    retry(database, batch_id)
    assert len(taken(database).images) == 2


def test_a_version_that_a_worker_cannot_use_is_left_to_others(database: Database) -> None:
    submit(database, 2)
    with database.write() as session:
        kept = queue.claim(session, Lane.ROUTINE, 9, lease_seconds=60, alone=False, without={"test-1"})
        assert kept is None
        session.execute(update(Image).values(alone=True))
        assert not queue.has_suspects(session, Lane.ROUTINE, without={"test-1"})
        assert queue.has_suspects(session, Lane.ROUTINE)


def test_a_lease_from_before_the_clock_was_set_back_comes_to_its_end(database: Database) -> None:
    submit(database, 1)
    taken(database)
    with database.write() as session:
        session.execute(update(Image).values(lease_until=now(3600)))
        assert leases.sweep(session, worker="sweeper") == 1


def purge(database: Database, blobs: Blobs, batch_id: str) -> int:
    change(database, batch_id, purging.mark)
    return purging.remove(database, blobs, batch_id)


def test_a_purge_takes_the_pixels_and_leaves_results_and_audit(database: Database, blobs: Blobs) -> None:
    batch_id = keep(database, blobs, b"one", b"two")
    with pytest.raises(ending.BatchOpen):
        purge(database, blobs, batch_id)
    finish(database, taken(database))
    assert purge(database, blobs, batch_id) == 2
    assert purge(database, blobs, batch_id) == 0
    assert progress(database, batch_id).outcome == Outcome.ALL_CLASSIFIED
    assert actions(database, batch_id)[-1] == "batch.purged"
    with pytest.raises(ending.BatchPurged):
        retry(database, batch_id)


def test_a_purge_leaves_what_another_batch_or_a_model_needs(database: Database, blobs: Blobs) -> None:
    first = keep(database, blobs, b"shared", b"weights")
    finish(database, taken(database))
    second = keep(database, blobs, b"shared")
    assert purge(database, blobs, first) == 0
    finish(database, taken(database))
    assert purge(database, blobs, second) == 1
    assert blobs.read(blobs.put(b"weights")) == b"weights"


def keep(database: Database, blobs: Blobs, *images: bytes) -> str:
    items = [Item(f"{number}.png", blobs.put(data), len(data), "image/png") for number, data in enumerate(images)]
    with database.of(tenancy.DEFAULT).write() as session:
        return batches.add(session, items, lane=Lane.ROUTINE, actor="test").id
