"""Batches: submitted whole, in one transaction, and read with counts that add up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from db import audit, clock, door, ids, registry, states, tables
from db.tables import OPEN, TERMINAL, Batch, BatchState, Image, ImageState, Label, Lane, Outcome, Result

_WEEK_SECONDS = 7 * 24 * 3600
_DECIDED = ("label", "probability", "threshold", "band_low", "band_high")
_NOW = (*_DECIDED, "model_version", "reasons", "notes", "gate")
_TOGETHER = 500


@dataclass(frozen=True)
class Item:
    """One image as it came in: `code` is set when it was rejected at the door, and then no bytes are kept."""

    custom_id: str
    sha256: str
    bytes: int
    media_type: str
    code: str | None = None


@dataclass(frozen=True)
class Progress:
    """A batch at one instant; `counts` is over all states and adds up to `total`."""

    id: str
    lane: Lane
    state: BatchState
    outcome: Outcome | None
    model_version: str | None
    synthetic: bool
    total: int
    announced: int | None
    counts: dict[ImageState, int]
    submitted_at: datetime
    finished_at: datetime | None
    expires_at: datetime | None
    purged_at: datetime | None
    results_purged_at: datetime | None

    @property
    def open(self) -> bool:
        """Whether its images may still change."""
        return self.state in OPEN

    @property
    def done(self) -> int:
        return sum(self.counts[state] for state in TERMINAL)


@dataclass(frozen=True)
class Original:
    """What an image's first result said, where another stands in its place."""

    result_id: str
    label: Label
    probability: float | None
    model_version: str


@dataclass(frozen=True)
class Line:
    """One image of a batch and what holds of it now; what is not known is None.

    Classified with `reasons`, it is inconclusive; it has no probability then, or one between `band_low` and `band_high`.
    With an `original`, the result is an amendment.
    """

    custom_id: str
    sha256: str
    state: ImageState
    code: str | None
    result_id: str | None
    label: Label | None
    probability: float | None
    threshold: float | None
    band_low: float | None
    band_high: float | None
    model_version: str | None
    reasons: list[str] | None
    notes: list[str] | None
    gate: str | None
    id: int
    original: Original | None = None


def add(
    session: Session,
    items: Sequence[Item],
    *,
    lane: Lane,
    actor: str,
    synthetic: bool = False,
    expire_seconds: int = _WEEK_SECONDS,
) -> Batch:
    """Queue the images as one batch, pinned to the present champion. Raises NoChampion."""
    submitted_at = clock.read(session)
    batch = Batch(
        id=ids.new("batch"),
        lane=lane,
        state=BatchState.PROCESSING,
        outcome=None,
        model_version=registry.champion(session).version,
        total=len(items),
        announced=None,
        synthetic=synthetic,
        submitted_at=submitted_at,
        finished_at=None,
        expires_at=submitted_at + timedelta(seconds=expire_seconds),
        purged_at=None,
    )
    session.add(batch)
    session.flush()
    tables.insert_rows(session, Image, [row(batch, item, ImageState.QUEUED, at=submitted_at) for item in items])
    entries = [door.submitted(batch, [item.sha256 for item in items]), *door.rejected(session, batch)]
    audit.append(session, actor, entries)
    states.close_finished(session, actor, {batch.id})
    return batch


def row(batch: Batch, item: Item, state: ImageState, *, at: datetime) -> dict[str, object]:
    """What is inserted for one image: in `state`, or rejected at the door."""
    return {
        "batch_id": batch.id,
        "tenant": batch.tenant,
        "custom_id": item.custom_id,
        "sha256": item.sha256,
        "bytes": item.bytes,
        "media_type": item.media_type,
        "lane": batch.lane,
        "state": ImageState.REJECTED if item.code else state,
        "code": item.code,
        "finished_at": at if item.code else None,
    }


def progress(session: Session, batch_id: str) -> Progress | None:
    """Return where the batch stands, or None if there is none of that id."""
    batch = session.get(Batch, batch_id)
    return None if batch is None else at(session, batch)


def find(session: Session, batch_id: str) -> Batch | None:
    """Return the batch to change it; it and the end of its hospital's audit chain are ours until this transaction ends.

    The chain first, as wherever both are held: two orders would be a deadlock.
    """
    audit.hold_of(session, [batch_id])
    # Not FOR UPDATE, for which the results that a worker is storing would have to wait, and it holds the chain next.
    return session.get(Batch, batch_id, with_for_update={"key_share": True})


def newest(session: Session, *, limit: int, after: str | None = None) -> list[Progress]:
    """Return batches newest first; `after` is the id of the last one already seen."""
    older = select(Batch).order_by(Batch.id.desc()).limit(limit)
    if after is not None:
        older = older.where(Batch.id < after)
    return [at(session, batch) for batch in session.scalars(older)]


def at(session: Session, batch: Batch) -> Progress:
    """Where the batch stands at this instant."""
    return Progress(
        id=batch.id,
        lane=Lane(batch.lane),
        state=BatchState(batch.state),
        outcome=None if batch.outcome is None else Outcome(batch.outcome),
        model_version=batch.model_version,
        synthetic=batch.synthetic,
        total=batch.total,
        announced=batch.announced,
        counts=states.counts(session, batch.id),
        submitted_at=batch.submitted_at,
        finished_at=batch.finished_at,
        expires_at=batch.expires_at,
        purged_at=batch.purged_at,
        results_purged_at=batch.results_purged_at,
    )


def lines(
    session: Session,
    batch_id: str,
    *,
    skip: int = 0,
    after: int = 0,
    limit: int | None = None,
    state: ImageState | None = None,
    custom_id: str | None = None,
) -> Iterator[Line]:
    """Yield the batch's images in the order of submission with the result that stands now, flat in memory.

    That is the result of its pinned model, or what amended it. `after` is the id of the last one already seen; `skip` counts from the first.
    """
    wanted = [Image.batch_id == batch_id, Image.id > after]
    if state:
        wanted.append(Image.state == state)
    if custom_id is not None:
        wanted.append(Image.custom_id == custom_id)
    pinned = select(Batch.model_version).where(Batch.id == batch_id).scalar_subquery()
    statement = (
        select(Image.id, Image.custom_id, Image.sha256, Image.state, Image.code, pinned.label("pinned"))
        .where(*wanted)
        .order_by(Image.id)
        .offset(skip)
        .limit(limit)
        .execution_options(yield_per=_TOGETHER)
    )
    with session.execute(statement) as images:
        for some in images.partitions():
            said = _said(session, [image.id for image in some])
            yield from (_line(image, said[image.id]) for image in some)


def _said(session: Session, image_ids: Sequence[int]) -> dict[int, list[Row[Any]]]:
    """Return the results of each image.

    By the images' ids, for which there is an index, and not by joining two tables: PostgreSQL, whose statistics are
    minutes old, may compare each image of a large batch with every result that there is.
    """
    found: dict[int, list[Row[Any]]] = {image_id: [] for image_id in image_ids}
    columns = (getattr(Result, name) for name in ("image_id", "id", "amends", *_NOW))
    for row in session.execute(select(*columns).where(Result.image_id.in_(image_ids))):
        found[row.image_id].append(row)
    return found


def _line(image: Row[Any], said: Sequence[Row[Any]]) -> Line:
    amended = {row.amends for row in said}
    first = next((row for row in said if row.model_version == image.pinned), None)
    now = next((row for row in said if row.id not in amended and (row is first or row.amends)), None)
    original = (
        Original(first.id, first.label, first.probability, first.model_version) if first and now is not first else None
    )
    told = {name: getattr(now, name) if now else None for name in _NOW}
    return Line(
        image.custom_id,
        image.sha256,
        image.state,
        image.code,
        now.id if now else None,
        id=image.id,
        original=original,
        **told,
    )
