"""The rows of drafts, on both databases."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from db import batches, drafts, ending, queue, registry, tenancy
from db.batches import Item
from db.clock import now
from db.database import Database
from db.drafts import Room
from db.tables import Batch, ImageState, Lane
from tests.queueing import claim, progress
from tests.service import CARD
from tests.test_ending import actions, cancel, overdue, retry

ROOM = Room(images=3, bytes=1_000)


def begin(database: Database) -> str:
    with database.of(tenancy.DEFAULT).write() as session:
        return drafts.begin(
            session, lane=Lane.ROUTINE, actor="test", synthetic=True, announced=None, expire_seconds=60
        ).id


def add(database: Database, batch_id: str, name: str, *, rejected: bool = False, size: int = 1) -> bool:
    item = Item(name, "0" * 64, size, "image/png", "truncated" if rejected else None)
    with database.of(tenancy.DEFAULT).write() as session:
        batch = batches.find(session, batch_id)
        assert batch
        return drafts.put(session, batch, item, actor="test", room=ROOM, expire_seconds=60)


def submit(database: Database, batch_id: str) -> int:
    with database.of(tenancy.DEFAULT).write() as session:
        batch = batches.find(session, batch_id)
        assert batch
        return drafts.submit(session, batch, actor="test", expire_seconds=60)


@pytest.mark.usefixtures("champion")
def test_no_worker_sees_a_draft(database: Database) -> None:
    batch_id = begin(database)
    add(database, batch_id, "1")
    assert claim(database, 10) is None
    with database.read() as session:
        assert sum(queue.waiting(session).values()) == 0
    assert submit(database, batch_id) == 1
    held = claim(database, 10)
    assert held
    assert held.images[0].model_version == CARD.version


@pytest.mark.usefixtures("champion")
def test_the_model_is_pinned_when_the_draft_is_submitted(database: Database, blobs: Any) -> None:
    batch_id = begin(database)
    add(database, batch_id, "1")
    newer = replace(CARD, version="test-2")
    with database.of(tenancy.DEFAULT).write() as session:
        registry.register(session, blobs, newer, b"other weights", actor="test")
        registry.appoint(session, registry.CHAMPION, newer.version, actor="test")
    submit(database, batch_id)
    assert progress(database, batch_id).model_version == "test-2"


@pytest.mark.usefixtures("champion")
def test_an_abandoned_draft_expires_with_its_images(database: Database) -> None:
    batch_id, empty, busy = begin(database), begin(database), begin(database)
    add(database, batch_id, "1")
    add(database, batch_id, "2", rejected=True)
    with database.of(tenancy.DEFAULT).write() as session:
        session.execute(update(Batch).where(Batch.id == busy).values(expires_at=now(-1)))
    add(database, busy, "1")  # which begins its time anew
    assert overdue(database, empty) == 0
    assert overdue(database, batch_id) == 1
    found = progress(database, batch_id)
    assert (found.state, found.counts[ImageState.EXPIRED], found.counts[ImageState.REJECTED]) == ("expired", 1, 1)
    assert (progress(database, empty).state, progress(database, busy).state) == ("expired", "receiving")
    with pytest.raises(ending.NeverSubmitted):
        retry(database, batch_id)
    assert actions(database, batch_id) == ["batch.opened", "image.rejected", "image.expired", "batch.expired"]


@pytest.mark.usefixtures("champion")
def test_a_draft_of_nothing_but_rejected_images_is_completed_when_it_is_submitted(database: Database) -> None:
    batch_id = begin(database)
    assert add(database, batch_id, "1", rejected=True)
    assert not add(database, batch_id, "1", rejected=True)
    assert progress(database, batch_id).state == "receiving"
    assert submit(database, batch_id) == 0
    found = progress(database, batch_id)
    assert (found.state, found.outcome) == ("completed", "none_classified")


@pytest.mark.usefixtures("champion")
def test_a_draft_is_full_by_number_and_by_bytes(database: Database) -> None:
    batch_id = begin(database)
    add(database, batch_id, "1", size=600)
    with pytest.raises(drafts.DraftFull):
        add(database, batch_id, "2", size=401)
    add(database, batch_id, "2", size=400)
    add(database, batch_id, "3", size=0)
    with pytest.raises(drafts.DraftFull):
        add(database, batch_id, "4", size=0)
    cancel(database, batch_id)
    assert progress(database, batch_id).counts[ImageState.CANCELLED] == 3
