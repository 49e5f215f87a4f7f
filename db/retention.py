"""What was kept long enough: images, results and audit, each by a clock of its own that starts with the batch's end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Text, and_, cast, delete, insert, literal, select, update
from sqlalchemy.orm import InstrumentedAttribute, Mapped, Session, mapped_column

from db import audit, batches, clock, idempotency, purging
from db.blobs import Blobs
from db.clock import now
from db.database import Database
from db.tables import OPEN, Batch, Image, Result, Table
from db.tenancy import Belonging

ACTOR = "retention"
_DAY_SECONDS = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Keep:
    """For how many days each is kept; 0 is for ever."""

    images: int = 0
    results: int = 0
    audit: int = 0


class PurgedResult(Belonging, Table):
    """That there was a result of this id, so that who asks for it is told that it is gone."""

    __tablename__ = "purged_results"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    batch_id: Mapped[str] = mapped_column(Text)


def purge_images(database: Database, blobs: Blobs, days: int) -> int:
    """Remove the pixels of batches that ended so long ago, and return of how many."""
    due = _due(database, days, Batch.purged_at)
    for batch_id in due:
        with database.write() as session:
            batch = batches.find(session, batch_id)
            if batch and batch.state not in OPEN:  # a retry may have come in between
                purging.mark(session, batch, actor=ACTOR)
        purging.remove(database, blobs, batch_id)
    return len(due)


def purge_results(database: Database, days: int) -> int:
    """Remove the results of batches that ended so long ago, with what names their images, and return of how many."""
    due = _due(database, days, Batch.results_purged_at)
    for batch_id in due:
        with database.write() as session:
            batch = batches.find(session, batch_id)
            if batch and batch.state not in OPEN:
                _forget_results(session, batch)
    return len(due)


def _due(database: Database, days: int, already: InstrumentedAttribute[datetime | None]) -> Sequence[str]:
    if not days:
        return ()
    with database.read() as session:
        ended = _ended(days) & already.is_(None)
        return session.scalars(select(Batch.id).where(ended).order_by(Batch.id)).all()


def _ended(days: int) -> ColumnElement[bool]:
    return and_(Batch.state.not_in(OPEN), Batch.finished_at < now(-days * _DAY_SECONDS))


def _forget_results(session: Session, batch: Batch) -> None:
    """One transaction; counts and states stay, and so does the audit, by its own clock."""
    mine = Result.batch_id == batch.id
    columns = ["tenant", "id", "batch_id"]
    session.execute(
        insert(PurgedResult).from_select(columns, select(Result.tenant, Result.id, Result.batch_id).where(mine))
    )
    gone = session.execute(delete(Result).where(mine).execution_options(synchronize_session=False))
    session.execute(
        update(Image)
        .where(Image.batch_id == batch.id)
        .values(custom_id=literal("image:") + cast(Image.id, Text), accession=None, study_uid=None, sop_uid=None)
        .execution_options(synchronize_session=False)
    )
    idempotency.forget_answers(session, batch.id)
    batch.results_purged_at = clock.read(session)
    detail = {"results": gone.rowcount}  # type: ignore[attr-defined]
    audit.append(session, ACTOR, [audit.Entry("results.purged", batch.id, batch.id, detail)])


def was_purged(session: Session, result_id: str) -> bool:
    """Whether there was a result of this id."""
    return session.scalars(select(PurgedResult.id).where(PurgedResult.id == result_id)).first() is not None
