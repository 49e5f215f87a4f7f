"""Requests to compute a result again, and what was found: rows of the audit, so that nobody else can make one."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import audit
from db.audit import Entry
from db.chains import AuditRow
from db.results import Found

ASKED = "result.verification_asked"
VERIFIED = "result.verified"


def was_asked(session: Session, found: Found, asked: int) -> bool:
    """Whether this row of the result's own chain asks for it, and nothing answers that yet."""
    mine = (AuditRow.tenant == found.result.tenant, AuditRow.batch_id == found.result.batch_id)
    request = select(AuditRow).where(*mine, AuditRow.seq == asked)
    row = session.scalars(request).one_or_none()
    if row is None or (row.action, row.subject) != (ASKED, found.result.id):
        return False
    answers = select(AuditRow.detail).where(
        *mine, AuditRow.seq > asked, AuditRow.action == VERIFIED, AuditRow.subject == found.result.id
    )
    return all(json.loads(detail).get("asked") != asked for detail in session.scalars(answers))


def keep(session: Session, found: Found, actor: str, told: Mapping[str, Any], *, asked: int | None = None) -> None:
    """Write down what was found."""
    detail = dict(told) | ({} if asked is None else {"asked": asked})
    audit.append(session, actor, [Entry(VERIFIED, found.result.id, found.result.batch_id, detail)])
