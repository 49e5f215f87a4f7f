"""Webhooks and their outbox: what is to be told is stored in the transaction in which it becomes true."""

import json
import secrets
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from random import uniform
from typing import Any, Final

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, Integer, Text, delete, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from db import audit, clock, ids, tables
from db.clock import Moment, now
from db.tables import Batch, Table
from db.tenancy import Owned, of_its_batch

MOST_WEBHOOKS: Final = 20
MOST_ATTEMPTS: Final = 9  # over a day and a quarter
_FIRST_PAUSE_SECONDS, _FACTOR, _JITTER = 5, 4, 0.2
_GONE = 410


class Event(StrEnum):
    """What can be told: how a batch ended."""

    COMPLETED = "batch.completed"
    CANCELLED = "batch.cancelled"
    EXPIRED = "batch.expired"


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Webhook(Owned, Table):
    """An address that wants to be told. Signing needs the secret itself, so no hash of it would do."""

    __tablename__ = "webhooks"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(Moment)


class Delivery(Owned, Table):
    """One message to one webhook, and how far it got; its id is the message's, the same at every attempt."""

    __tablename__ = "deliveries"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id"))
    event: Mapped[Event] = mapped_column(Text)
    batch_id: Mapped[str] = mapped_column(Text)
    payload: Mapped[str] = mapped_column(Text)
    state: Mapped[DeliveryState] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Moment)
    next_at: Mapped[datetime] = mapped_column(Moment)
    last_at: Mapped[datetime | None] = mapped_column(Moment)
    last_status: Mapped[int | None] = mapped_column(Integer)
    last_error: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (
        of_its_batch(),
        CheckConstraint("state IN ('pending', 'delivered', 'failed')", name="state_known"),
        Index("ix_deliveries_state_next_at", "state", "next_at"),
        Index("ix_deliveries_webhook_id", "webhook_id", "id"),
    )


class TooManyWebhooks(Exception):
    """Each one costs a message for every batch."""


@dataclass(frozen=True)
class Due:
    """A message to be delivered now; `attempt` fences those who tried before."""

    id: str
    url: str
    secret: str
    payload: str
    attempt: int


def register(session: Session, url: str, events: Sequence[Event], *, actor: str) -> Webhook:
    """Return a new webhook with a secret of its own. Raises TooManyWebhooks."""
    audit.hold(session)
    if session.scalars(select(func.count(Webhook.id))).one() >= MOST_WEBHOOKS:
        raise TooManyWebhooks(MOST_WEBHOOKS)
    webhook = Webhook(
        id=ids.new("webhook"),
        url=url,
        secret=f"whsec_{b64encode(secrets.token_bytes(32)).decode()}",
        events=[str(event) for event in events],
        created_at=clock.read(session),
    )
    session.add(webhook)
    session.flush()
    audit.append(session, actor, [audit.Entry("webhook.registered", webhook.id, None, {"events": webhook.events})])
    return webhook


def remove(session: Session, webhook: Webhook, *, actor: str) -> None:
    """Forget the webhook and what it was told."""
    audit.append(session, actor, [audit.Entry("webhook.removed", webhook.id, None, {})])
    session.execute(delete(Delivery).where(Delivery.webhook_id == webhook.id))
    session.delete(webhook)


def registered(session: Session) -> Sequence[Webhook]:
    """Return every webhook, oldest first."""
    return session.scalars(select(Webhook).order_by(Webhook.id)).all()


def find(session: Session, webhook_id: str) -> Webhook | None:
    return session.get(Webhook, webhook_id)


def deliveries(session: Session, webhook_id: str, *, limit: int, after: str | None = None) -> Sequence[Delivery]:
    """Return what the webhook was told, newest first; `after` is the id of the last one already seen."""
    wanted = select(Delivery).where(Delivery.webhook_id == webhook_id).order_by(Delivery.id.desc()).limit(limit)
    return session.scalars(wanted if after is None else wanted.where(Delivery.id < after)).all()


def announce(session: Session, batch_id: str, event: Event, data: Mapping[str, Any]) -> None:
    """Put a message into the outbox for every webhook of the batch's hospital that wants it: ids and numbers, nothing of a patient."""
    tenant = session.scalars(select(Batch.tenant).where(Batch.id == batch_id)).one()
    theirs = session.scalars(select(Webhook).where(Webhook.tenant == tenant).order_by(Webhook.id))
    wanted = [webhook.id for webhook in theirs if event in webhook.events]
    if not wanted:
        return
    at = clock.read(session)
    told = {"type": event, "timestamp": at.isoformat(timespec="milliseconds"), "data": {"batch_id": batch_id, **data}}
    payload = json.dumps(told, separators=(",", ":"))
    common = {"event": event, "batch_id": batch_id, "tenant": tenant, "payload": payload, "attempts": 0}
    common["state"] = DeliveryState.PENDING
    rows = [{"id": ids.new("msg"), "webhook_id": webhook_id, "created_at": at, "next_at": at} for webhook_id in wanted]
    tables.insert_rows(session, Delivery, [row | common for row in rows])


def next_due(session: Session) -> float | None:
    """Seconds until a message is due, 0 or less where one is; None where none waits."""
    due, present = session.execute(
        select(func.min(Delivery.next_at), now()).where(Delivery.state == DeliveryState.PENDING)
    ).one()
    return None if due is None else float((due - present).total_seconds())


def claim(session: Session, *, lease_seconds: int) -> Due | None:
    """Take the message that is due for longest; where nobody settles it, it is due again when the lease ends."""
    oldest = (
        select(Delivery.id)
        .where(Delivery.state == DeliveryState.PENDING, Delivery.next_at <= now())
        .order_by(Delivery.next_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .cte("oldest")
    )
    claimed = session.execute(
        update(Delivery)
        .where(Delivery.id.in_(select(oldest.c.id)))
        .values(attempts=Delivery.attempts + 1, next_at=now(lease_seconds), last_at=now())
        .returning(Delivery.id, Delivery.webhook_id, Delivery.payload, Delivery.attempts)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if claimed is None:
        return None
    webhook = session.get_one(Webhook, claimed.webhook_id)
    return Due(claimed.id, webhook.url, webhook.secret, claimed.payload, claimed.attempts)


def settle(session: Session, due: Due, *, status: int | None, error: str | None) -> DeliveryState:
    """Store how the attempt went, and when the next one is to be; unless someone else has tried since."""
    delivered = status is not None and status in range(200, 300)
    over = status == _GONE or due.attempt >= MOST_ATTEMPTS
    state = DeliveryState.DELIVERED if delivered else DeliveryState.FAILED if over else DeliveryState.PENDING
    session.execute(
        update(Delivery)
        .where(Delivery.id == due.id, Delivery.attempts == due.attempt, Delivery.state == DeliveryState.PENDING)
        .values(state=state, next_at=now(round(pause_seconds(due.attempt))), last_status=status, last_error=error)
        .execution_options(synchronize_session=False)
    )
    return state


def pause_seconds(attempt: int) -> float:
    """Until the next attempt: 5 s, then four times as long each time, a fifth more or less."""
    jitter = uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
    return float(_FIRST_PAUSE_SECONDS * _FACTOR ** (attempt - 1) * jitter)
