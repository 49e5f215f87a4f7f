"""Drafts: batches that are filled image by image until their sender submits them."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db import audit, batches, clock, door, ids, registry, states, tables
from db.batches import Item
from db.tables import Batch, BatchState, Image, ImageState, Lane


class DraftClosed(Exception):
    """The batch was submitted, or has ended."""


class OtherBytes(Exception):
    """The draft holds another image under this name."""


class DraftEmpty(Exception):
    """There is nothing to submit."""


class DraftIncomplete(Exception):
    """The draft holds another number of images than was announced."""


class DraftFull(Exception):
    """One more image would exceed what a batch may hold; the message says in what."""


@dataclass(frozen=True)
class Room:
    """What a batch may hold."""

    images: int
    bytes: int


def begin(
    session: Session, *, lane: Lane, actor: str, synthetic: bool, announced: int | None, expire_seconds: int
) -> Batch:
    """Open a draft; `announced` is how many images it is to have, if that is known."""
    opened_at = clock.read(session)
    batch = Batch(
        id=ids.new("batch"),
        lane=lane,
        state=BatchState.RECEIVING,
        total=0,
        announced=announced,
        synthetic=synthetic,
        submitted_at=opened_at,
        expires_at=opened_at + timedelta(seconds=expire_seconds),
    )
    session.add(batch)
    session.flush()
    audit.append(session, actor, [audit.Entry("batch.opened", batch.id, batch.id, {"lane": lane})])
    return batch


def put(session: Session, batch: Batch, item: Item, *, actor: str, room: Room, expire_seconds: int) -> bool:
    """Add the image to the draft, and return whether it was not there already; the caller holds the batch.

    Raises DraftClosed, OtherBytes, DraftFull.
    """
    check_open(batch)
    mine = Image.batch_id == batch.id
    known = held(session, batch.id, item.custom_id)
    check_same(known, item)
    if known:
        return False
    taken = session.scalars(select(func.coalesce(func.sum(Image.bytes), 0)).where(mine)).one()
    if batch.total >= room.images:
        raise DraftFull("images")
    if taken + item.bytes > room.bytes:
        raise DraftFull("bytes")
    at = clock.read(session)
    tables.insert_rows(session, Image, [batches.row(batch, item, ImageState.RECEIVED, at=at)])
    batch.total += 1
    batch.expires_at = at + timedelta(seconds=expire_seconds)
    if item.code:
        session.flush()
        audit.append(session, actor, door.rejected(session, batch, item.custom_id))
    return True


def submit(session: Session, batch: Batch, *, actor: str, expire_seconds: int) -> int:
    """Queue the draft's images, pinned to the present champion, and return how many; the caller holds the batch.

    Raises DraftClosed, DraftEmpty, DraftIncomplete, NoChampion.
    """
    check_open(batch)
    if not batch.total:
        raise DraftEmpty(batch.id)
    if batch.announced not in {None, batch.total}:
        raise DraftIncomplete(batch.id)
    batch.model_version = registry.champion(session).version
    batch.state = BatchState.PROCESSING
    batch.submitted_at = clock.read(session)
    batch.expires_at = batch.submitted_at + timedelta(seconds=expire_seconds)
    session.flush()
    moved = states.move(session, ImageState.RECEIVED, ImageState.QUEUED, Image.batch_id == batch.id)
    sha256s = session.scalars(select(Image.sha256).where(Image.batch_id == batch.id).order_by(Image.id)).all()
    audit.append(session, actor, [door.submitted(batch, sha256s)])
    states.close_finished(session, actor, {batch.id})
    return len(moved)


def held(session: Session, batch_id: str, custom_id: str) -> Image | None:
    """Return the image that the draft has under this name, if it has one."""
    return session.scalar(select(Image).where(Image.batch_id == batch_id, Image.custom_id == custom_id))


def check_same(known: Image | None, item: Item) -> None:
    """Raise OtherBytes where another image is known by the item's name."""
    if known and (known.sha256, known.code) != (item.sha256, item.code):
        raise OtherBytes(item.custom_id)


def check_open(batch: Batch) -> None:
    """Raise DraftClosed unless images may still be added."""
    if batch.state != BatchState.RECEIVING:
        raise DraftClosed(batch.id)
