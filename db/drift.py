"""What came in lately, counted in bins by day, and how far that is from what a model was trained on."""

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

from sqlalchemy import Date, ForeignKey, Integer, PrimaryKeyConstraint, Text, and_, func, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from db import clock
from db.tables import Batch, Table
from db.tenancy import Owned

BINS: Final = 10
BOUND: Final = 0.25
"""Population stability index from which drift is an alarm; below 0.1 nothing has moved (Siddiqi 2006)."""

LEAST_IMAGES: Final = 100
"""Fewer say nothing about drift."""

_DAYS: Final = 7

Histogram = Sequence[int]


class InputCount(Owned, Table):
    """How many of a hospital's radiographs of a day, for one model version, were in one bin of a feature such as `brightness`."""

    __tablename__ = "input_counts"
    day: Mapped[date] = mapped_column(Date)
    version: Mapped[str] = mapped_column(ForeignKey("models.version"))
    feature: Mapped[str] = mapped_column(Text)
    bin: Mapped[int] = mapped_column(Integer, autoincrement=False)
    images: Mapped[int] = mapped_column(Integer)
    __table_args__ = (PrimaryKeyConstraint("tenant", "day", "version", "feature", "bin"),)


def add(session: Session, counted: Mapping[str, Mapping[str, Histogram]]) -> None:
    """Add {batch_id: {feature: histogram}} to today's counts of the batch's hospital; what was drawn by code does not count."""
    today = clock.read(session).date()
    real = select(Batch.id, Batch.tenant, Batch.model_version).where(Batch.id.in_(counted), ~Batch.synthetic)
    for batch_id, tenant, version in session.execute(real).all():
        for feature, histogram in counted[batch_id].items():
            for place, images in enumerate(histogram):
                if images:
                    key = {"tenant": tenant, "day": today, "version": version, "feature": feature, "bin": place}
                    _add(session, key, images)


def _add(session: Session, key: Mapping[str, Any], images: int) -> None:
    where = and_(*(getattr(InputCount, name) == value for name, value in key.items()))
    known = update(InputCount).where(where).values(images=InputCount.images + images).returning(InputCount.bin)
    if session.execute(known.execution_options(synchronize_session=False)).first() is None:
        session.execute(insert(InputCount).values(**key, images=images))


def inputs(session: Session, version: str) -> dict[str, list[int]]:
    """Return the histogram of each feature over the last week, of the session's hospital, or of all for the system."""
    since = clock.read(session).date() - timedelta(days=_DAYS - 1)
    rows = session.execute(
        select(InputCount.feature, InputCount.bin, func.sum(InputCount.images))
        .where(InputCount.version == version, InputCount.day >= since)
        .group_by(InputCount.feature, InputCount.bin)
    )
    found: dict[str, list[int]] = {}
    for feature, place, images in rows:
        found.setdefault(feature, [0] * BINS)[place] = int(images)
    return found


def stability_index(expected: Histogram, actual: Histogram) -> float | None:
    """Sum over the bins of (a - e) ln(a / e) for their shares, with half a count added to each; None without counts."""
    if not sum(expected) or not sum(actual):
        return None
    shares = [[(count + 0.5) / (sum(counts) + 0.5 * len(counts)) for count in counts] for counts in (expected, actual)]
    return float(sum((a - e) * math.log(a / e) for e, a in zip(*shares, strict=True)))
