"""What a challenger would have said: counts of labels that would change. Its scores are kept nowhere."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, Integer, Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from db import audit, clock
from db.clock import Moment
from db.tables import Batch, Identity, Image, Label, Result, Table


class ShadowReport(Table):
    """One look of a challenger at the last images of patients; `sites` has the counts of each, None where they were not kept."""

    __tablename__ = "shadow_reports"
    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    version: Mapped[str] = mapped_column(ForeignKey("models.version"))
    images: Mapped[int] = mapped_column(Integer)
    unreadable: Mapped[int] = mapped_column(Integer)
    flips: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    sites: Mapped[dict[str, dict[str, int]] | None] = mapped_column(JSON)
    actor: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment)
    __table_args__ = (Index("ix_shadow_reports_version", "version"),)


@dataclass(frozen=True)
class Answered:
    """An image and the label that it got, with where it came from."""

    sha256: str
    label: Label
    site: str
    source: str


@dataclass(frozen=True)
class Seen:
    """What the challenger says of it; None where it cannot be read any more."""

    answered: Answered
    label: Label | None


def last(session: Session, images: int) -> list[Answered]:
    """Return the last images of patients with their answers, newest first; those made by code or purged are left out."""
    statement = (
        select(Result.image_sha256, Result.label, Batch.tenant, Image.media_type)
        .join(Image, Image.id == Result.image_id)
        .join(Batch, Batch.id == Result.batch_id)
        .where(~Batch.synthetic, Batch.purged_at.is_(None))
        .order_by(Result.id.desc())
        .limit(images)
    )
    return [Answered(sha256, Label(label), site, kind) for sha256, label, site, kind in session.execute(statement)]


def record(session: Session, version: str, seen: Sequence[Seen], *, actor: str) -> ShadowReport:
    """Keep how many labels would change, which way and where."""
    audit.hold(session)
    flips = Counter(
        (one.answered.site, one.answered.source, one.answered.label, one.label)
        for one in seen
        if one.label is not None and one.label != one.answered.label
    )
    names = ("site", "source", "before", "after")
    report = ShadowReport(
        version=version,
        images=sum(one.label is not None for one in seen),
        unreadable=sum(one.label is None for one in seen),
        flips=[dict(zip(names, key, strict=True)) | {"images": count} for key, count in sorted(flips.items())],
        sites=_sites(seen),
        actor=actor,
        created_at=clock.read(session),
    )
    session.add(report)
    session.flush()
    detail = {"images": report.images, "flips": flips.total()}
    audit.append(session, actor, [audit.Entry("model.shadowed", version, None, detail)])
    return report


def _sites(seen: Sequence[Seen]) -> dict[str, dict[str, int]]:
    """How many images of each site the challenger could read, and could not."""
    sites = {one.answered.site: {"images": 0, "unreadable": 0} for one in seen}
    for one in seen:
        sites[one.answered.site]["images" if one.label is not None else "unreadable"] += 1
    return sites


def report(session: Session, version: str) -> ShadowReport | None:
    """The newest one of the version."""
    found = select(ShadowReport).where(ShadowReport.version == version).order_by(ShadowReport.id.desc()).limit(1)
    return session.scalar(found)
