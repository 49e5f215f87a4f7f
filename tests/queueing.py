"""A few words for the tests of the queue: submit, take, finish, let a lease end."""

from collections.abc import Sequence

from sqlalchemy import update

from db import batches, leases, queue, tenancy
from db.batches import Item
from db.clock import now
from db.database import Database
from db.identifiers import Identifiers
from db.queue import Claim, Failure, Finding
from db.tables import Image, ImageState, Label, Lane


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
