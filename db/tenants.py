"""Hospitals: each sees its own batches, images and results, and nobody else's."""

import re
from collections.abc import Sequence

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from db import audit
from db.clock import now
from db.tables import Tenant

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class TenantUnusable(Exception):
    """No tenant can have this name; the message says why."""


def add(session: Session, name: str, *, actor: str) -> None:
    """Make room for one more hospital. Raises TenantUnusable."""
    if not _ID.fullmatch(name):
        raise TenantUnusable(f"{name!r} cannot name a tenant: use a-z, 0-9 and hyphens, at most 63")
    if exists(session, name):
        raise TenantUnusable(f"there is a tenant {name} already")
    session.execute(insert(Tenant).values(id=name, created_at=now()))
    audit.begin(session, name)
    audit.append(session, actor, [audit.Entry("tenant.created", name, None, {})])


def exists(session: Session, name: str) -> bool:
    return session.get(Tenant, name) is not None


def every(session: Session) -> Sequence[Tenant]:
    return session.scalars(select(Tenant).order_by(Tenant.id)).all()
