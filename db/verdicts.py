"""The gate's verdicts on versions: what each rule measured, against the champion and on the frozen fold of that day."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, ForeignKey, Index, Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from db import audit, clock
from db.clock import Moment
from db.tables import Identity, Table


class Verdict(Table):
    """What training's code found of a version against the champion of that day, on the frozen fold of that day."""

    __tablename__ = "verdicts"
    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    version: Mapped[str] = mapped_column(ForeignKey("models.version"))
    champion: Mapped[str] = mapped_column(ForeignKey("models.version"))
    fold_fingerprint: Mapped[str] = mapped_column(Text)
    passed: Mapped[bool] = mapped_column(Boolean)
    findings: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    golden: Mapped[list[float]] = mapped_column(JSON)
    reference: Mapped[dict[str, Any]] = mapped_column(JSON)
    actor: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment)
    __table_args__ = (Index("ix_verdicts_version", "version"),)


@dataclass(frozen=True)
class Finding:
    """What one rule of the gate measured, and what it asks for."""

    rule: str
    passed: bool
    measured: float | None
    bound: float | None
    words: str


def record(
    session: Session,
    version: str,
    findings: Sequence[Finding],
    *,
    champion: str,
    fold_fingerprint: str,
    golden: Sequence[float],
    reference: dict[str, Any],
    actor: str,
) -> Verdict:
    """Keep the gate's findings on `version` against the champion that it was compared with, who may be another by now."""
    audit.hold(session)
    verdict = Verdict(
        version=version,
        champion=champion,
        fold_fingerprint=fold_fingerprint,
        passed=all(finding.passed for finding in findings),
        findings=[asdict(_finite(finding)) for finding in findings],
        golden=list(golden) if all(map(math.isfinite, golden)) else [],
        reference=reference,
        actor=actor,
        created_at=clock.read(session),
    )
    session.add(verdict)
    session.flush()
    failed = [finding.rule for finding in findings if not finding.passed]
    detail = {"champion": verdict.champion, "fold": fold_fingerprint, "passed": verdict.passed, "failed": failed}
    audit.append(session, actor, [audit.Entry("model.judged", version, None, detail)])
    return verdict


def _finite(finding: Finding) -> Finding:
    """JSON knows no NaN."""
    return replace(finding, measured=_number(finding.measured), bound=_number(finding.bound))


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def newest(session: Session, version: str) -> Verdict | None:
    """The last one on the version, whatever champion it was against."""
    return session.scalar(select(Verdict).where(Verdict.version == version).order_by(Verdict.id.desc()).limit(1))


def golden(session: Session, version: str) -> list[float]:
    """What the golden pictures gave when the version last passed the gate; empty where it never did."""
    passed = select(Verdict.golden).where(Verdict.version == version, Verdict.passed)
    return session.scalar(passed.order_by(Verdict.id.desc()).limit(1)) or []


def bounds(session: Session, fold_fingerprint: str) -> dict[str, list[float]]:
    """For each rule, the bounds of all verdicts on this frozen fold: some follow the champion of their day."""
    found: dict[str, list[float]] = {}
    for findings in session.scalars(select(Verdict.findings).where(Verdict.fold_fingerprint == fold_fingerprint)):
        for finding in findings:
            if finding["bound"] is not None:
                found.setdefault(finding["rule"], []).append(finding["bound"])
    return found
