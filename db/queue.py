"""The queue of record: claim with a lease and a fence, finish in one transaction."""

import secrets
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, exists, func, select, true, update
from sqlalchemy.orm import Session

from db import audit, clock, ending, ids, states, tables
from db.clock import now
from db.identifiers import Identifiers
from db.tables import Batch, Image, ImageState, Label, Lane, Result

STRIKES_BEFORE_TRIAL = 3

_MADE_BY = ("weights_sha256", "preprocessing", "gate", "decoding")
_AS_FOUND = (*_MADE_BY, "raw_probability", "probability", "threshold", "label", "decode_ms", "predict_ms")
_TOLD = ("image_sha256", "model_version", *_MADE_BY, "probability", "threshold", "label", "reasons")


class Fenced(Exception):
    """The lease ended before the work did: someone else may hold these images, so nothing of ours is kept."""


@dataclass(frozen=True)
class Claimed:
    """One image that this worker may work on until its lease ends."""

    id: int
    batch_id: str
    sha256: str
    model_version: str
    tenant: str
    claimed_at: datetime
    attempt: int
    strikes: int


@dataclass(frozen=True)
class Claim:
    """Images held together under one fence token."""

    token: str
    images: tuple[Claimed, ...]
    alone: bool

    @property
    def on_trial(self) -> bool:
        """Whether it is one image, with which so many workers died that only a witness can tell whether it is to blame."""
        return self.alone and self.images[0].strikes >= STRIKES_BEFORE_TRIAL


@dataclass(frozen=True)
class Finding:
    """What the model said of one image; see `Result` for the columns."""

    image: Claimed
    identifiers: Identifiers | None
    weights_sha256: str
    preprocessing: str
    raw_probability: float | None
    probability: float | None
    threshold: float
    label: Label
    reasons: tuple[str, ...]
    decode_ms: float
    predict_ms: float
    gate: str | None = None
    decoding: str | None = None
    band: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why an image has no result: `state` is REJECTED (the image's fault) or QUARANTINED (to be looked at)."""

    image: Claimed
    state: ImageState
    code: str


def claim(
    session: Session,
    lane: Lane,
    limit: int,
    *,
    lease_seconds: int,
    alone: bool,
    without: AbstractSet[str] = frozenset(),
) -> Claim | None:
    """Lease up to `limit` queued images of the lane, or one that must be worked on alone, or return None.

    Images that are pinned to a model version in `without` are left to another worker.
    """
    waiting = (
        select(Image.id)
        .where(Image.state == ImageState.QUEUED, Image.lane == lane, Image.alone == alone, _usable(without))
        .order_by(*[Image.strikes] * alone, Image.id)  # the least suspected first
        .limit(1 if alone else limit)
        .with_for_update(skip_locked=True)
        .cte("waiting")  # as a plain subquery PostgreSQL may run it more than once, and lock more than the limit
    )
    token = secrets.token_hex(16)
    moved = states.move(
        session,
        ImageState.QUEUED,
        ImageState.LEASED,
        Image.id.in_(select(waiting.c.id)),
        lease_token=token,
        lease_until=now(lease_seconds),
        attempts=Image.attempts + 1,
    )
    if not moved:
        return None
    pinned = _pinned(session, {row.batch_id for row in moved})
    lease = timedelta(seconds=lease_seconds)
    images = tuple(
        Claimed(
            row.id, row.batch_id, row.sha256, *pinned[row.batch_id], row.lease_until - lease, row.attempts, row.strikes
        )
        for row in sorted(moved)
    )
    return Claim(token, images, alone)


def _usable(without: AbstractSet[str]) -> ColumnElement[bool]:
    """All versions as a rule, at no cost."""
    if not without:
        return true()
    return Image.batch_id.not_in(select(Batch.id).where(Batch.model_version.in_(without)))


def _pinned(session: Session, batch_ids: set[str]) -> dict[str, tuple[str, str]]:
    """Each batch's model version and hospital."""
    rows = session.execute(select(Batch.id, Batch.model_version, Batch.tenant).where(Batch.id.in_(batch_ids)))
    return {row.id: (row.model_version, row.tenant) for row in rows if row.model_version}


def finish(
    session: Session, claim: Claim, findings: Sequence[Finding], failures: Sequence[Failure], *, worker: str
) -> None:
    """Store what was found for every image of the claim, or raise Fenced and store nothing."""
    if len(findings) + len(failures) != len(claim.images):
        raise ValueError("every image of the claim needs one answer")
    moved = []
    for failure in failures:
        image = and_(_held(claim), Image.id == failure.image.id)
        moved += states.move(session, ImageState.LEASED, failure.state, image, code=failure.code)
    moved += states.move(session, ImageState.LEASED, ImageState.CLASSIFIED, _held(claim))  # all that is left of it
    if len(moved) != len(claim.images):
        raise Fenced(f"{len(claim.images) - len(moved)} of {len(claim.images)} images are no longer ours")
    identified = [{"id": finding.image.id, **vars(finding.identifiers)} for finding in findings if finding.identifiers]
    if identified:
        session.execute(update(Image), identified)
    entries = [_failed(failure) for failure in failures]
    if findings:
        at = clock.read(session)
        rows = [row_of(finding, worker, at) for finding in findings]
        tables.insert_rows(session, Result, rows)
        entries += [_classified(finding, row) for finding, row in zip(findings, rows, strict=True)]
    audit.append(session, worker, entries)
    states.close_finished(session, worker, {image.batch_id for image in claim.images})


def hold_on(session: Session, claim: Claim, *, lease_seconds: int) -> None:
    """Let the lease of what is still held begin anew."""
    session.execute(
        update(Image)
        .where(Image.state == ImageState.LEASED, _held(claim))
        .values(lease_until=now(lease_seconds))
        .execution_options(synchronize_session=False)
    )


def give_back(session: Session, claim: Claim, *, worker: str) -> None:
    """Queue the claim's images again; nothing was wrong with them."""
    moved = states.move(session, ImageState.LEASED, ImageState.QUEUED, _held(claim), alone=claim.alone)
    ending.stop_again(session, worker, {row.batch_id for row in moved})


def let_go(session: Session, claim: Claim) -> None:
    """End the lease now: what happened to these images is for the sweep to judge, as if the worker had died."""
    session.execute(
        update(Image)
        .where(Image.state == ImageState.LEASED, _held(claim))
        .values(lease_until=now(-1))
        .execution_options(synchronize_session=False)
    )


def has_suspects(session: Session, lane: Lane, *, without: AbstractSet[str] = frozenset()) -> bool:
    """Whether an image of the lane waits that must be worked on alone."""
    suspect = exists().where(Image.state == ImageState.QUEUED, Image.lane == lane, Image.alone, _usable(without))
    return session.scalars(select(suspect)).one()


def is_busy(session: Session) -> bool:
    """Whether an image waits for a worker or is in one's hands."""
    open_image = exists().where(Image.state.in_([ImageState.QUEUED, ImageState.LEASED]))
    return session.scalars(select(open_image)).one()


def waiting(session: Session) -> dict[Lane, int]:
    """How many images are queued in each lane."""
    rows = session.execute(
        select(Image.lane, func.count()).where(Image.state == ImageState.QUEUED).group_by(Image.lane)
    )
    found = {Lane(lane): number for lane, number in rows}
    return {lane: found.get(lane, 0) for lane in Lane}


def _held(claim: Claim) -> ColumnElement[bool]:
    ids = [image.id for image in claim.images]
    return and_(Image.lease_token == claim.token, Image.id.between(min(ids), max(ids)))  # the range is the index


def row_of(finding: Finding, worker: str, at: datetime) -> dict[str, object]:
    """The finding as a row of the results."""
    return {
        "id": ids.new("result"),
        "tenant": finding.image.tenant,
        "image_id": finding.image.id,
        "batch_id": finding.image.batch_id,
        "image_sha256": finding.image.sha256,
        "model_version": finding.image.model_version,
        "band_low": finding.band[0] if finding.band else None,
        "band_high": finding.band[1] if finding.band else None,
        "reasons": list(finding.reasons),
        "notes": list(finding.notes),
        "worker": worker,
        "created_at": at,
    } | {name: getattr(finding, name) for name in _AS_FOUND}


def _classified(finding: Finding, row: dict[str, object]) -> audit.Entry:
    detail = told_of(row) | _begun(finding.image)
    return audit.Entry("image.classified", f"image:{finding.image.id}", finding.image.batch_id, detail)


def told_of(row: dict[str, object]) -> dict[str, object]:
    """What the audit says of a new result."""
    return {"result": row["id"]} | {name: row[name] for name in _TOLD}


def _failed(failure: Failure) -> audit.Entry:
    detail = {"sha256": failure.image.sha256, "code": failure.code} | _begun(failure.image)
    return audit.Entry(f"image.{failure.state}", f"image:{failure.image.id}", failure.image.batch_id, detail)


def _begun(image: Claimed) -> dict[str, object]:
    return {"claimed_at": image.claimed_at.isoformat(timespec="milliseconds"), "attempt": image.attempt}
