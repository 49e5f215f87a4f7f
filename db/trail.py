"""The audit as it is read: in order, by filters, and the life of one result."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db.chains import AuditRow
from db.results import Found

SEARCHED = "results.searched"
_TOGETHER = 500


@dataclass(frozen=True)
class Search:
    """What is looked for; None is everything. `since` is included, `until` not."""

    tenant: str | None = None
    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    batch_id: str | None = None
    origin: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def rows(session: Session, search: Search, *, after: int = 0, limit: int | None = None) -> Iterator[AuditRow]:
    """Yield what matches, oldest first in each chain and flat in memory; of one chain, `after` is the `seq` of the last one already seen."""
    wanted = [AuditRow.seq > after]
    for column in (
        AuditRow.tenant,
        AuditRow.actor,
        AuditRow.action,
        AuditRow.subject,
        AuditRow.batch_id,
        AuditRow.origin,
    ):
        value = getattr(search, column.key)
        wanted += [] if value is None else [column == value]
    if search.since is not None:
        wanted.append(AuditRow.at >= _written(search.since))
    if search.until is not None:
        wanted.append(AuditRow.at < _written(search.until))
    found = select(AuditRow).where(*wanted).order_by(AuditRow.tenant, AuditRow.seq).limit(limit)
    yield from session.scalars(found.execution_options(yield_per=_TOGETHER))


def life(session: Session, found: Found) -> list[AuditRow]:
    """Return every row that tells of this result, oldest first: its batch, its image, and each look that showed it."""
    result, image = found.result, found.image
    subjects = (result.id, f"image:{image.id}", image.batch_id)
    own = select(AuditRow).where(AuditRow.batch_id == image.batch_id, AuditRow.subject.in_(subjects))
    # Word by word as in the index: SQLite uses no partial index for a value that is bound.
    searches = select(AuditRow).where(text(f"audit.action = '{SEARCHED}'"), AuditRow.detail.contains(f'"{result.id}"'))
    told = [*session.scalars(own), *session.scalars(searches)]
    return sorted((row for row in told if _is_about(row, image.id)), key=lambda row: row.seq)


def _is_about(row: AuditRow, image_id: int) -> bool:
    """A look at some images of a batch says from which to which."""
    detail = json.loads(row.detail)
    first, last = detail.get("first_image"), detail.get("last_image")
    return first is None or first <= image_id <= last


def _written(moment: datetime) -> str:
    """As `at` is written, so that text compares like time."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
