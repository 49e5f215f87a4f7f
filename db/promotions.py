"""Who becomes champion: who asked for a promotion or a rollback, and why."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, CheckConstraint, ForeignKey, Index, Text, select, text, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from db import audit, clock, registry, verdicts
from db.clock import Moment, now
from db.tables import Identity, Table
from db.verdicts import Verdict


class PromotionState(StrEnum):
    PENDING = "pending"
    IN_EFFECT = "in_effect"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class Promotion(Table):
    """A change of champion: pending until a worker has loaded and tried the version; a rollback needs no trial."""

    __tablename__ = "promotions"
    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    version: Mapped[str] = mapped_column(ForeignKey("models.version"))
    previous: Mapped[str] = mapped_column(ForeignKey("models.version"))
    rollback: Mapped[bool] = mapped_column(Boolean)
    who: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    state: Mapped[PromotionState] = mapped_column(Text)
    problem: Mapped[str | None] = mapped_column(Text)
    asked_at: Mapped[datetime] = mapped_column(Moment)
    settled_at: Mapped[datetime | None] = mapped_column(Moment)
    __table_args__ = (
        CheckConstraint("state IN ('pending', 'in_effect', 'refused', 'withdrawn')", name="state_known"),
        CheckConstraint("(state = 'pending') = (settled_at IS NULL)", name="settled"),
        CheckConstraint("(state IN ('refused', 'withdrawn')) = (problem IS NOT NULL)", name="refusal_has_problem"),
        Index(
            "ix_promotions_one_pending",
            "state",
            unique=True,
            sqlite_where=text("state = 'pending'"),
            postgresql_where=text("state = 'pending'"),
        ),
    )


class NotJudged(Exception):
    """There is no verdict on this version against this champion on this data; the message says what to do."""


class GateRefused(Exception):
    """The gate refused the version; `findings` are the rules that it failed."""

    def __init__(self, findings: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(finding["words"] for finding in findings))
        self.findings = findings


class AlreadyChampion(Exception):
    """There is nothing to promote."""


class PromotionPending(Exception):
    """Another promotion waits for a worker."""


REFUSALS = (AlreadyChampion, PromotionPending, NotJudged, GateRefused)
"""Why a registered version is not let to become champion."""


class NothingToRollBack(Exception):
    """The version is not the champion, or no other was before it."""


def ask(session: Session, version: str, *, who: str, reason: str, actor: str) -> Promotion:
    """Let the version become champion once a worker has tried it.

    Raises VersionUnknown, AlreadyChampion, PromotionPending, NotJudged and GateRefused.
    """
    audit.hold(session)
    registry.find(session, version)
    champion = registry.champion(session).version
    if version == champion:
        raise AlreadyChampion(version)
    if pending(session):
        raise PromotionPending(version)
    _check_verdict(session, version, champion)
    promotion = _add(session, version, champion, who=who, reason=reason, actor=actor)
    detail = {"before": champion, "who": who, "reason": reason}
    audit.append(session, actor, [audit.Entry("model.promotion_asked", version, None, detail)])
    return promotion


def _check_verdict(session: Session, version: str, champion: str) -> None:
    found = verdicts.newest(session, version)
    newest = session.scalar(select(Verdict.fold_fingerprint).order_by(Verdict.id.desc()).limit(1))
    how = f"run `cxr judge {version} --data DATA` first"
    if found is None:
        raise NotJudged(f"no verdict of the gate on {version} is stored: {how}")
    if found.champion != champion:
        raise NotJudged(f"{version} was judged against {found.champion}, and {champion} is the champion now: {how}")
    if found.fold_fingerprint != newest:
        raise NotJudged(f"{version} was judged on another frozen fold than the newest verdict: {how}")
    if not found.passed:
        raise GateRefused([finding for finding in found.findings if not finding["passed"]])


def pending(session: Session) -> Promotion | None:
    return session.scalar(select(Promotion).where(Promotion.state == PromotionState.PENDING))


def latest(session: Session) -> Promotion | None:
    """The change of champion that was asked for last, however it went."""
    return session.scalar(select(Promotion).order_by(Promotion.id.desc()).limit(1))


def refusal(session: Session) -> Promotion | None:
    """The latest change of champion, if no worker could use the version: an alarm until the next one."""
    last = latest(session)
    return last if last and last.state == PromotionState.REFUSED else None


def settle(session: Session, promotion_id: int, *, problem: str | None, worker: str) -> bool:
    """A worker has tried the version: make it champion, or leave the old one. Only the first one's word counts."""
    audit.hold(session)
    state = PromotionState.REFUSED if problem else PromotionState.IN_EFFECT
    settled = session.scalars(
        update(Promotion)
        .where(Promotion.id == promotion_id, Promotion.state == PromotionState.PENDING)
        .values(state=state, problem=problem, settled_at=now())
        .returning(Promotion.version)
    ).all()
    for version in settled:
        if problem:
            entry = audit.Entry("model.promotion_refused", version, None, {"problem": problem})
            audit.append(session, worker, [entry])
        else:
            registry.appoint(session, registry.CHAMPION, version, actor=worker)
    return bool(settled)


def roll_back(session: Session, version: str, *, who: str, reason: str, actor: str) -> Promotion:
    """Make the one champion again that `version` replaced, at once; a promotion that waits for a worker is withdrawn.

    Of the version that waits, that is all. Raises NothingToRollBack.
    """
    audit.hold(session)
    waiting = pending(session)
    if waiting:
        _withdraw(session, waiting, f"withdrawn by {who}: {reason}", actor=actor)
        if waiting.version == version:
            return waiting
    if registry.champion(session).version != version:
        raise NothingToRollBack(f"{version} is not the champion")
    replaced = session.scalar(
        select(Promotion.previous)
        .where(Promotion.version == version, ~Promotion.rollback, Promotion.state == PromotionState.IN_EFFECT)
        .order_by(Promotion.id.desc())
        .limit(1)
    )
    if replaced is None:
        raise NothingToRollBack(f"{version} replaced no other version")
    promotion = _add(session, replaced, version, who=who, reason=reason, actor=actor, rollback=True)
    registry.appoint(session, registry.CHAMPION, replaced, actor=actor)
    detail = {"before": version, "who": who, "reason": reason}
    audit.append(session, actor, [audit.Entry("model.rolled_back", replaced, None, detail)])
    return promotion


def _withdraw(session: Session, waiting: Promotion, problem: str, *, actor: str) -> None:
    """Whoever settles one holds the end of the audit, as the caller does: it still waits."""
    waiting.state, waiting.problem, waiting.settled_at = PromotionState.WITHDRAWN, problem, clock.read(session)
    entry = audit.Entry("model.promotion_withdrawn", waiting.version, None, {"problem": problem})
    audit.append(session, actor, [entry])


def _add(
    session: Session, version: str, previous: str, *, who: str, reason: str, actor: str, rollback: bool = False
) -> Promotion:
    at = clock.read(session)
    promotion = Promotion(
        version=version,
        previous=previous,
        rollback=rollback,
        who=who,
        reason=reason,
        actor=actor,
        state=PromotionState.IN_EFFECT if rollback else PromotionState.PENDING,
        problem=None,
        asked_at=at,
        settled_at=at if rollback else None,
    )
    session.add(promotion)
    session.flush()
    return promotion
