"""Retraining runs: one at a time, held by a lease that its trainer renews, so that a dead trainer's run goes on."""

import secrets
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, CheckConstraint, ForeignKey, Integer, Text, and_, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from db import audit, clock, ids
from db.clock import Moment, now
from db.tables import Table


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = frozenset({RunState.QUEUED, RunState.RUNNING})


class RetrainingRun(Table):
    """One run from the labels of that day to a candidate; `unfinished` is true or NULL, so that there is only one."""

    __tablename__ = "retraining_runs"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    state: Mapped[RunState] = mapped_column(Text)
    unfinished: Mapped[bool | None] = mapped_column(Boolean, unique=True)
    actor: Mapped[str] = mapped_column(Text)
    cancelling: Mapped[bool] = mapped_column(Boolean)
    attempts: Mapped[int] = mapped_column(Integer)
    new_images: Mapped[int | None] = mapped_column(Integer)
    left_out: Mapped[int | None] = mapped_column(Integer)
    epoch: Mapped[int] = mapped_column(Integer)
    epochs: Mapped[int | None] = mapped_column(Integer)
    version: Mapped[str | None] = mapped_column(ForeignKey("models.version"))
    passed: Mapped[bool | None] = mapped_column(Boolean)
    problem: Mapped[str | None] = mapped_column(Text)
    lease_token: Mapped[str | None] = mapped_column(Text)
    lease_until: Mapped[datetime | None] = mapped_column(Moment)
    asked_at: Mapped[datetime] = mapped_column(Moment)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="state_known"),
        CheckConstraint("(state IN ('queued', 'running')) = (unfinished IS NOT NULL)", name="unfinished_is_open"),
        CheckConstraint("(state = 'running') = (lease_token IS NOT NULL)", name="lease_while_running"),
        CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="lease_ends"),
        CheckConstraint("(state = 'failed') = (problem IS NOT NULL)", name="failure_has_problem"),
        CheckConstraint("(state = 'succeeded') = (version IS NOT NULL)", name="success_has_version"),
    )


class RunUnfinished(Exception):
    """A run waits or runs already; its id is the message."""


class RunFinished(Exception):
    """The run has ended; there is nothing to cancel."""


class LeaseLost(Exception):
    """Another trainer holds the run, or nobody does: nothing of ours is kept."""


def ask(session: Session, *, actor: str) -> RetrainingRun:
    """Queue a run, or raise RunUnfinished."""
    audit.hold(session)
    standing = unfinished(session)
    if standing:
        raise RunUnfinished(standing.id)
    run = RetrainingRun(
        id=ids.new("retraining"),
        state=RunState.QUEUED,
        unfinished=True,
        actor=actor,
        cancelling=False,
        attempts=0,
        epoch=0,
        asked_at=clock.read(session),
    )
    session.add(run)
    session.flush()
    audit.append(session, actor, [audit.Entry("retraining.asked", run.id, None, {})])
    return run


def unfinished(session: Session) -> RetrainingRun | None:
    return session.scalar(select(RetrainingRun).where(RetrainingRun.unfinished.is_(True)))


def is_abandoned(session: Session) -> bool:
    """Whether a run is under way that no trainer has renewed in time."""
    late = select(RetrainingRun.id).where(RetrainingRun.state == RunState.RUNNING, RetrainingRun.lease_until < now())
    return session.scalar(late) is not None


def find(session: Session, run_id: str) -> RetrainingRun | None:
    return session.get(RetrainingRun, run_id)


def newest(session: Session, *, limit: int) -> list[RetrainingRun]:
    return list(session.scalars(select(RetrainingRun).order_by(RetrainingRun.id.desc()).limit(limit)))


def cancel(session: Session, run_id: str, *, actor: str) -> None:
    """Stop the run: at once where it waits, after the present epoch where it runs. Raises RunFinished."""
    audit.hold(session)
    run = session.get_one(RetrainingRun, run_id, populate_existing=True)
    if run.state not in UNFINISHED:
        raise RunFinished(run_id)
    audit.append(session, actor, [audit.Entry("retraining.cancel_asked", run_id, None, {})])
    if run.state == RunState.QUEUED:
        _end(session, run_id, RunState.CANCELLED, RetrainingRun.state == RunState.QUEUED, actor=actor)
    else:
        run.cancelling = True


def claim(session: Session, *, lease_seconds: int, actor: str) -> RetrainingRun | None:
    """Take the run that waits, or whose trainer is silent, and return it; None where there is none."""
    silent = and_(RetrainingRun.state == RunState.RUNNING, RetrainingRun.lease_until < now())
    audit.hold(session)
    claimed = session.scalar(
        update(RetrainingRun)
        .where(or_(RetrainingRun.state == RunState.QUEUED, silent))
        .values(
            state=RunState.RUNNING,
            lease_token=secrets.token_hex(16),
            lease_until=now(lease_seconds),
            attempts=RetrainingRun.attempts + 1,
            started_at=now(),
        )
        .returning(RetrainingRun.id)
    )
    if claimed is None:
        return None
    run = session.get_one(RetrainingRun, claimed, populate_existing=True)
    detail = {"attempt": run.attempts, "after_epoch": run.epoch}
    audit.append(session, actor, [audit.Entry("retraining.started", run.id, None, detail)])
    return run


def hold_on(session: Session, run: RetrainingRun, *, lease_seconds: int, **progress: int) -> bool:
    """Renew the lease, note the progress, and return whether the run is to be cancelled. Raises LeaseLost."""
    cancelling = session.scalar(
        update(RetrainingRun)
        .where(_ours(run))
        .values(lease_until=now(lease_seconds), **progress)
        .returning(RetrainingRun.cancelling)
        .execution_options(synchronize_session=False)
    )
    if cancelling is None:
        raise LeaseLost(run.id)
    return cancelling


def let_go(session: Session, run: RetrainingRun) -> None:
    """Queue the run again, for another trainer or this one's next start."""
    session.execute(
        update(RetrainingRun)
        .where(_ours(run))
        .values(state=RunState.QUEUED, lease_token=None, lease_until=None)
        .execution_options(synchronize_session=False)
    )


def finish(
    session: Session,
    run: RetrainingRun,
    state: RunState,
    *,
    actor: str,
    version: str | None = None,
    passed: bool | None = None,
    problem: str | None = None,
) -> None:
    """End the run, or raise LeaseLost and change nothing."""
    audit.hold(session)
    _end(session, run.id, state, _ours(run), actor=actor, version=version, passed=passed, problem=problem)


def _end(session: Session, run_id: str, state: RunState, where: Any, *, actor: str, **told: Any) -> None:
    ended = session.scalar(
        update(RetrainingRun)
        .where(RetrainingRun.id == run_id, where)
        .values(state=state, unfinished=None, lease_token=None, lease_until=None, finished_at=now(), **told)
        .returning(RetrainingRun.id)
    )
    if ended is None:
        raise LeaseLost(run_id)
    detail = {name: value for name, value in told.items() if value is not None}
    audit.append(session, actor, [audit.Entry(f"retraining.{state}", run_id, None, detail)])


def _ours(run: RetrainingRun) -> Any:
    return and_(RetrainingRun.id == run.id, RetrainingRun.lease_token == run.lease_token)
