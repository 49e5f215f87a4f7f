"""Operating points of a model version for single hospitals: chosen on their own images, in place of the version's own."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, Float, ForeignKey, Text, delete, insert, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from db import audit
from db.clock import Moment, now
from db.tables import Table


class SitePoint(Table):
    """Where the labels of one model version begin and end at one hospital, and on what that was chosen."""

    __tablename__ = "site_points"
    model_version: Mapped[str] = mapped_column(ForeignKey("models.version"), primary_key=True)
    site: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    threshold: Mapped[float] = mapped_column(Float)
    band_low: Mapped[float] = mapped_column(Float)
    band_high: Mapped[float] = mapped_column(Float)
    chosen_on: Mapped[dict[str, Any]] = mapped_column(JSON)
    actor: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment)
    __table_args__ = (
        CheckConstraint("threshold BETWEEN 0 AND 1", name="threshold_in_range"),
        CheckConstraint("threshold BETWEEN band_low AND band_high", name="band_around_threshold"),
    )


@dataclass(frozen=True)
class Point:
    threshold: float
    band: tuple[float, float]


def put(session: Session, version: str, site: str, point: Point, *, chosen_on: dict[str, Any], actor: str) -> None:
    """Decide so from now on at this hospital; results that are there keep theirs."""
    session.execute(delete(SitePoint).where(SitePoint.model_version == version, SitePoint.site == site))
    low, high = point.band
    values = {"threshold": point.threshold, "band_low": low, "band_high": high}
    row = {"model_version": version, "site": site, "chosen_on": chosen_on, "actor": actor, "created_at": now()}
    session.execute(insert(SitePoint).values(**values, **row))
    audit.append(session, actor, [audit.Entry("model.site_point", version, None, {"site": site, **values, **chosen_on})])


def of(session: Session, version: str, sites: Collection[str]) -> dict[str, Point]:
    """Return the points of those hospitals that have one of their own."""
    wanted = select(SitePoint).where(SitePoint.model_version == version, SitePoint.site.in_(sites))
    return {
        found.site: Point(found.threshold, (found.band_low, found.band_high)) for found in session.scalars(wanted)
    }
