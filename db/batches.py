"""Batches: submitted whole, in one transaction, and read with counts that add up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, aliased

from db import audit, clock, door, ids, registry, states, tables
from db.results import is_current
from db.tables import OPEN, TERMINAL, Batch, BatchState, Image, ImageState, Label, Lane, Outcome, Result

_WEEK_SECONDS = 7 * 24 * 3600
_NOW = 15  # columns that say what stands now; those of the first result follow

_First = aliased(Result)
_pinned_or_amended = or_(Result.model_version == Batch.model_version, Result.amends.is_not(None))


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
    statement = (
        select(
            Image.custom_id,
            Image.sha256,
            Image.state,
            Image.code,
            Result.id,
            Result.label,
            Result.probability,
            Result.threshold,
            Result.band_low,
            Result.band_high,
            Result.model_version,
            Result.reasons,
            Result.notes,
            Result.gate,
            Image.id,
            _First.id,
            _First.label,
            _First.probability,
            _First.model_version,
        )
        .join(Batch, Batch.id == Image.batch_id)
        .outerjoin(Result, (Result.image_id == Image.id) & _pinned_or_amended & is_current())
        .outerjoin(
            _First,
            (_First.image_id == Image.id) & (_First.model_version == Batch.model_version) & Result.amends.is_not(None),
        )
        .where(*wanted)
        .order_by(Image.id)
        .offset(skip)
        .limit(limit)
        .execution_options(yield_per=500)
    )
    with session.execute(statement) as rows:
        for row in rows:
            cells: tuple[Any, ...] = tuple(row)  # the columns stand in the order of the fields
            first = Original(*cells[_NOW:]) if cells[_NOW] else None
            yield Line(*cells[:_NOW], original=first)  # type: ignore[misc]
