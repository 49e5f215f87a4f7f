"""Ground truth: what RT-PCR or a radiologist found. Labels are only added; of one image the newest holds."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, ColumnElement, Index, Subquery, Text, func, select, union_all
from sqlalchemy.orm import Mapped, Session, mapped_column

from db import audit, clock
from db.clock import Moment
from db.tables import Identity, Image, Result, Table
from db.tenancy import Owned


class Truth(StrEnum):
    POSITIVE = "positive"
    NEGATIVE = "negative"


class Source(StrEnum):
    """Who or what found it."""

    RT_PCR = "rt_pcr"
    RADIOLOGIST = "radiologist"


class GroundTruth(Owned, Table):
    """One finding on one study, by its accession number, or on one image, by the SHA-256 of its bytes."""

    __tablename__ = "labels"
    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    accession: Mapped[str | None] = mapped_column(Text)
    image_sha256: Mapped[str | None] = mapped_column(Text)
    label: Mapped[Truth] = mapped_column(Text)
    source: Mapped[Source] = mapped_column(Text)
    given_by: Mapped[str] = mapped_column(Text)
    patient: Mapped[str | None] = mapped_column(Text)
    found_at: Mapped[datetime | None] = mapped_column(Moment)
    actor: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment)
    __table_args__ = (
        CheckConstraint("label IN ('positive', 'negative')", name="label_known"),
        CheckConstraint("source IN ('rt_pcr', 'radiologist')", name="source_known"),
        CheckConstraint("(accession IS NULL) <> (image_sha256 IS NULL)", name="of_study_or_image"),
        Index("ix_labels_accession", "accession"),
        Index("ix_labels_image_sha256", "image_sha256"),
    )


@dataclass(frozen=True)
class Given:
    """One label as it comes in, for exactly one of `accession`, `image_sha256` and `result_id`."""

    label: Truth
    source: Source
    given_by: str
    accession: str | None = None
    image_sha256: str | None = None
    result_id: str | None = None
    patient: str | None = None
    found_at: datetime | None = None


@dataclass(frozen=True)
class Kept:
    """What became of it: the label and how many stored images it is of, or else why it was refused."""

    label: GroundTruth | None
    images: int = 0
    refused: str | None = None


def pseudonym(patient: str) -> str:
    """Return what is kept of a patient's identifier: enough to see that two images are of one person."""
    return hashlib.sha256(patient.encode()).hexdigest()


def give(session: Session, rows: Sequence[Given], *, actor: str) -> list[Kept]:
    """Add what can be added and return one answer for each row; an image or result that is not there is refused."""
    audit.hold(session)  # one after the other, so that the order of the ids is the order of their coming
    at = clock.read(session)
    kept = [_one(session, row, actor, at) for row in rows]
    session.flush()
    audit.append(session, actor, [_entry(answer.label) for answer in kept if answer.label])
    return kept


def _one(session: Session, row: Given, actor: str, at: datetime) -> Kept:
    sha256 = row.image_sha256
    if row.result_id is not None:
        sha256 = session.scalar(select(Result.image_sha256).where(Result.id == row.result_id))
        if sha256 is None:
            return Kept(None, refused="result_unknown")
    of_it = Image.accession == row.accession if row.accession else Image.sha256 == sha256
    images = session.scalars(select(func.count()).select_from(Image).where(of_it)).one()
    if not images and not row.accession:  # a study may get its label before its images
        return Kept(None, refused="image_unknown")
    label = GroundTruth(
        accession=row.accession,
        image_sha256=None if row.accession else sha256,
        label=row.label,
        source=row.source,
        given_by=row.given_by,
        patient=pseudonym(row.patient) if row.patient else None,
        found_at=row.found_at,
        actor=actor,
        created_at=at,
    )
    session.add(label)
    return Kept(label, images)


def newest(
    session: Session,
    *,
    limit: int,
    after: int | None = None,
    accession: str | None = None,
    image_sha256: str | None = None,
) -> list[GroundTruth]:
    """Return labels newest first, the ones that no longer hold too; `after` is the id of the last one seen."""
    wanted = select(GroundTruth).order_by(GroundTruth.id.desc()).limit(limit)
    if after is not None:
        wanted = wanted.where(GroundTruth.id < after)
    if accession is not None:
        wanted = wanted.where(GroundTruth.accession == accession)
    if image_sha256 is not None:
        wanted = wanted.where(GroundTruth.image_sha256 == image_sha256)
    return list(session.scalars(wanted))


def that_hold(session: Session, image_ids: Sequence[int]) -> dict[int, GroundTruth]:
    """Return the label that holds of each image that has one."""
    found = holding(Image.id.in_(image_ids))
    wanted = select(found.c.image_id, GroundTruth).join(GroundTruth, GroundTruth.id == found.c.label_id)
    return dict(session.execute(wanted).all())


def holding(*of: ColumnElement[bool]) -> Subquery:
    """(image_id, label_id): for each image, of those wanted, that has labels, by itself or by its study, the newest."""
    ids = (Image.id.label("image_id"), GroundTruth.id.label("label_id"))
    same_tenant = GroundTruth.tenant == Image.tenant  # two hospitals may number their studies alike
    pairs = union_all(
        select(*ids).join(GroundTruth, (GroundTruth.image_sha256 == Image.sha256) & same_tenant).where(*of),
        select(*ids).join(GroundTruth, (GroundTruth.accession == Image.accession) & same_tenant).where(*of),
    ).subquery()
    label: Any = func.max(pairs.c.label_id).label("label_id")
    return select(pairs.c.image_id, label).group_by(pairs.c.image_id).subquery()


def _entry(label: GroundTruth) -> audit.Entry:
    """Without the accession number and the patient: the row's id leads to them."""
    detail = {"label": label.label, "source": label.source, "image_sha256": label.image_sha256}
    return audit.Entry("label.given", f"label:{label.id}", None, detail)
