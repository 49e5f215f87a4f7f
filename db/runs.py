"""Runs of the trainer: of each kind one at a time, held by a lease that is renewed, so that a dead trainer's run goes on."""

import secrets
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from sqlalchemy import Boolean, CheckConstraint, Integer, Text, and_, or_, select, update
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


class Run(Table):
    """What the runs of every kind have; `unfinished` is true or NULL, so that there is only one."""

    __abstract__ = True
    named: ClassVar[str]
    """What its ids and its rows in the audit begin with."""

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    state: Mapped[RunState] = mapped_column(Text)
    unfinished: Mapped[bool | None] = mapped_column(Boolean, unique=True)
    actor: Mapped[str] = mapped_column(Text)
    cancelling: Mapped[bool] = mapped_column(Boolean)
    attempts: Mapped[int] = mapped_column(Integer)
    problem: Mapped[str | None] = mapped_column(Text)
    lease_token: Mapped[str | None] = mapped_column(Text)
    lease_until: Mapped[datetime | None] = mapped_column(Moment)
    asked_at: Mapped[datetime] = mapped_column(Moment)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)

    def reached(self) -> dict[str, Any]:
        """How far it is, as the audit says where a trainer begins it."""
        raise NotImplementedError


OneRun = TypeVar("OneRun", bound=Run)


def rules() -> tuple[CheckConstraint, ...]:
    """What the database sees to in the table of every kind."""
    return (
        CheckConstraint("state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="state_known"),
        CheckConstraint("(state IN ('queued', 'running')) = (unfinished IS NOT NULL)", name="unfinished_is_open"),
        CheckConstraint("(state = 'running') = (lease_token IS NOT NULL)", name="lease_while_running"),
        CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="lease_ends"),
        CheckConstraint("(state = 'failed') = (problem IS NOT NULL)", name="failure_has_problem"),
    )


class RunUnfinished(Exception):
    """A run of this kind waits or runs already; its id is the message."""


class RunFinished(Exception):
    """The run has ended; there is nothing to cancel."""


class LeaseLost(Exception):
    """Another trainer holds the run, or nobody does: nothing of ours is kept."""


def ask(session: Session, kind: type[OneRun], *, actor: str, **wanted: Any) -> OneRun:
    """Queue a run, or raise RunUnfinished; `wanted` are columns of its kind."""
    audit.hold(session)
    standing = unfinished(session, kind)
    if standing:
        raise RunUnfinished(standing.id)
    run = kind(
        id=ids.new(kind.named),
        state=RunState.QUEUED,
        unfinished=True,
        actor=actor,
        cancelling=False,
        attempts=0,
        asked_at=clock.read(session),
        **wanted,
    )
    session.add(run)
    session.flush()
    _befell(session, run, "asked", actor, wanted)
    return run


def unfinished(session: Session, kind: type[OneRun]) -> OneRun | None:
    return session.scalar(select(kind).where(kind.unfinished.is_(True)))


def is_abandoned(session: Session, kind: type[Run]) -> bool:
    """Whether a run is under way that no trainer has renewed in time."""
    late = select(kind.id).where(kind.state == RunState.RUNNING, kind.lease_until < now())
    return session.scalar(late) is not None


def find(session: Session, kind: type[OneRun], run_id: str) -> OneRun | None:
    return session.get(kind, run_id) if run_id.isprintable() else None


def newest(session: Session, kind: type[OneRun], *, limit: int, after: str | None = None) -> list[OneRun]:
    """Newest first; `after` is the id of the last one seen."""
    query = select(kind).order_by(kind.id.desc()).limit(limit)
    return list(session.scalars(query.where(kind.id < after) if after else query))


def cancel(session: Session, kind: type[Run], run_id: str, *, actor: str) -> None:
    """Stop the run: at once where it waits, after its present step where it runs. Raises RunFinished."""
    audit.hold(session)
    run = session.get_one(kind, run_id, populate_existing=True)
    if run.state not in UNFINISHED:
        raise RunFinished(run_id)
    _befell(session, run, "cancel_asked", actor, {})
    if run.state == RunState.QUEUED:
        _end(session, run, RunState.CANCELLED, kind.state == RunState.QUEUED, actor=actor)
    else:
        run.cancelling = True


def claim(session: Session, kind: type[OneRun], *, lease_seconds: int, actor: str) -> OneRun | None:
    """Take the run that waits, or whose trainer is silent, and return it; None where there is none."""
    silent = and_(kind.state == RunState.RUNNING, kind.lease_until < now())
    audit.hold(session)
    claimed = session.scalar(
        update(kind)
        .where(or_(kind.state == RunState.QUEUED, silent))
        .values(
            state=RunState.RUNNING,
            lease_token=secrets.token_hex(16),
            lease_until=now(lease_seconds),
            attempts=kind.attempts + 1,
            started_at=now(),
        )
        .returning(kind.id)
    )
    if claimed is None:
        return None
    run = session.get_one(kind, claimed, populate_existing=True)
    _befell(session, run, "started", actor, {"attempt": run.attempts} | run.reached())
    return run


def hold_on(session: Session, run: Run, *, lease_seconds: int, **progress: Any) -> bool:
    """Renew the lease, note the progress, and return whether the run is to be cancelled. Raises LeaseLost."""
    cancelling = session.scalar(
        update(type(run))
        .where(_ours(run))
        .values(lease_until=now(lease_seconds), **progress)
        .returning(type(run).cancelling)
        .execution_options(synchronize_session=False)
    )
    if cancelling is None:
        raise LeaseLost(run.id)
    return cancelling


def let_go(session: Session, run: Run) -> None:
    """Queue the run again, for another trainer or this one's next start."""
    session.execute(
        update(type(run))
        .where(_ours(run))
        .values(state=RunState.QUEUED, lease_token=None, lease_until=None)
        .execution_options(synchronize_session=False)
    )


def finish(session: Session, run: Run, state: RunState, *, actor: str, **told: Any) -> bool:
    """End the run, with columns of its kind, and return whether it was to be cancelled; or raise LeaseLost."""
    audit.hold(session)
    return _end(session, run, state, _ours(run), actor=actor, **told)


def _end(session: Session, run: Run, state: RunState, where: Any, *, actor: str, **told: Any) -> bool:
    kind = type(run)
    cancelling: bool | None = session.scalar(
        update(kind)
        .where(kind.id == run.id, where)
        .values(state=state, unfinished=None, lease_token=None, lease_until=None, finished_at=now(), **told)
        .returning(kind.cancelling)
    )
    if cancelling is None:
        raise LeaseLost(run.id)
    _befell(session, run, state, actor, {name: value for name, value in told.items() if value is not None})
    return cancelling


def _ours(run: Run) -> Any:
    kind = type(run)
    return and_(kind.id == run.id, kind.lease_token == run.lease_token)


def _befell(session: Session, run: Run, what: str, actor: str, detail: dict[str, Any]) -> None:
    audit.append(session, actor, [audit.Entry(f"{run.named}.{what}", run.id, None, detail)])
