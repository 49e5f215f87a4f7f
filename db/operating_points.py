"""Operating points of a model version for single hospitals, chosen on their own labelled results; the newest holds."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, Float, ForeignKey, Index, Text, exists, func, select
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

from db import audit, clock, labels
from db.clock import Moment
from db.labels import GroundTruth, Truth
from db.tables import Batch, Identity, Image, Model, Result, Table
from db.tenancy import Owned

Band = tuple[float, float]


class OperatingPoint(Owned, Table):
    """Where the labels of one version begin and end at one hospital, who chose that, and on what.

    Rows are only added, since results go on naming the point that they were made with; one without numbers puts the
    version's own back.
    """

    __tablename__ = "operating_points"
    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    model_version: Mapped[str] = mapped_column(ForeignKey("models.version"))
    threshold: Mapped[float | None] = mapped_column(Float)
    band_low: Mapped[float | None] = mapped_column(Float)
    band_high: Mapped[float | None] = mapped_column(Float)
    chosen_on: Mapped[dict[str, Any]] = mapped_column(JSON)
    actor: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment)
    __table_args__ = (
        CheckConstraint("(threshold IS NULL) = (band_low IS NULL)", name="all_or_none_low"),
        CheckConstraint("(threshold IS NULL) = (band_high IS NULL)", name="all_or_none_high"),
        CheckConstraint("0 <= band_low AND band_low <= threshold", name="band_begins_below"),
        CheckConstraint("threshold <= band_high AND band_high <= 1", name="band_ends_above"),
        Index("ix_operating_points_model_version", "model_version", "tenant", "id"),
    )


@dataclass(frozen=True)
class Scored:
    """One labelled image of a hospital: what the version said of it, and what it was."""

    probability: float
    positive: bool
    patient: str


def put(
    session: Session, version: str, tenant: str, point: tuple[float, Band] | None, *, on: dict[str, Any], actor: str
) -> None:
    """Decide so from now on at this hospital, with None as the version itself does; results that are there stay."""
    audit.hold(session)
    threshold, (low, high) = point or (None, (None, None))
    numbers = {"threshold": threshold, "band_low": low, "band_high": high}
    row = OperatingPoint(
        model_version=version, tenant=tenant, **numbers, chosen_on=on, actor=actor, created_at=clock.read(session)
    )
    session.add(row)
    session.flush()
    entry = audit.Entry("model.operating_point", version, None, numbers | on, tenant=tenant)
    audit.append(session, actor, [entry])


def holding(session: Session, version: str, tenants: Collection[str]) -> dict[str, tuple[float, Band]]:
    """Return the points of those hospitals that have one of their own."""
    newest = select(func.max(OperatingPoint.id)).where(OperatingPoint.model_version == version)
    newest = newest.where(OperatingPoint.tenant.in_(tenants)).group_by(OperatingPoint.tenant)
    rows = session.scalars(select(OperatingPoint).where(OperatingPoint.id.in_(newest)))
    return {row.tenant: found for row in rows if (found := _point(row))}


def left_behind(session: Session, version: str, successor: str) -> list[str]:
    """Return the hospitals that have a point of their own with the version, and none with its successor."""
    tenants = session.scalars(select(OperatingPoint.tenant).distinct()).all()
    return sorted(holding(session, version, tenants).keys() - holding(session, successor, tenants).keys())


def ever(session: Session, version: str, tenant: str) -> list[tuple[float, Band]]:
    """Return every point that the version has had at the hospital."""
    theirs = select(OperatingPoint).where(OperatingPoint.model_version == version, OperatingPoint.tenant == tenant)
    return [found for row in session.scalars(theirs) if (found := _point(row))]


def scored(session: Session, version: str, tenant: str) -> list[Scored]:
    """Return the hospital's images of patients that the version scored and that have a label, each picture once.

    Without what it may have been trained on: pictures that were here before it, and patients who had a label by then.
    """
    registered_at = session.get_one(Model, version).registered_at
    held = labels.holding()
    own, early, early_batch = aliased(GroundTruth), aliased(Image), aliased(Batch)
    was_here = (
        exists().where(early.sha256 == Image.sha256, early.batch_id == early_batch.id)
        .where(early_batch.submitted_at < registered_at)
    )  # fmt: skip
    known = select(GroundTruth.patient).where(GroundTruth.created_at < registered_at, GroundTruth.patient.is_not(None))
    wanted = (
        select(Result.image_sha256, Result.probability, own.label, own.patient, Image.accession)
        .join(Image, Image.id == Result.image_id)
        .join(Batch, Batch.id == Result.batch_id)
        .join(held, held.c.image_id == Image.id)
        .join(own, own.id == held.c.label_id)
        .where(Result.model_version == version, Result.tenant == tenant)
        .where(~Batch.synthetic, ~was_here, own.patient.is_(None) | own.patient.not_in(known))
        .order_by(Result.id)
    )
    found = {
        sha256: Scored(probability, label == Truth.POSITIVE, patient or accession or sha256)
        for sha256, probability, label, patient, accession in session.execute(wanted)
        if probability is not None
    }
    return list(found.values())


def _point(row: OperatingPoint) -> tuple[float, Band] | None:
    if row.threshold is None or row.band_low is None or row.band_high is None:
        return None
    return row.threshold, (row.band_low, row.band_high)
