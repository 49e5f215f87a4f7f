"""Results of one model version seen anew by another: amendments beside the originals, which stay as they were."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, func, select
from sqlalchemy.orm import Session, aliased

from db import audit, clock, queue, results, tables
from db.audit import Entry
from db.queue import Claimed, Finding
from db.reclassification import ReclassificationRun
from db.tables import Batch, Image, Label, Result

_Other = aliased(Result)


@dataclass(frozen=True)
class Outdated:
    """A result that still stands and the image to be seen anew, as if `model_version` had claimed it."""

    result_id: str
    label: Label
    image: Claimed
    purged_at: datetime | None


Seen = tuple[Outdated, Finding]
"""A result, and what another version found in its image."""


def outdated(session: Session, old: str, new: str, *, after: str, limit: int) -> list[Outdated]:
    """Return results of `old` that still stand and that `new` can amend, in the order of their ids."""
    found = session.execute(
        select(Result.id, Result.label, Image, Batch.purged_at)
        .join(Image, Image.id == Result.image_id)
        .join(Batch, Batch.id == Result.batch_id)
        .where(_stands(old, new), Result.id > after)
        .order_by(Result.id)
        .limit(limit)
    )
    at = clock.read(session)
    return [
        Outdated(result_id, Label(label), _as_claimed(image, new, at), gone) for result_id, label, image, gone in found
    ]


def count(session: Session, old: str, new: str, *, after: str) -> int:
    """How many results of `old` are there to be amended behind this id."""
    wanted = (_stands(old, new), Result.id > after)
    return session.scalars(select(func.count()).select_from(Result).where(*wanted)).one()


def _stands(old: str, new: str) -> ColumnElement[bool]:
    """Nothing amends it, and the image has no answer of the new version, which would be a second one."""
    answered = exists().where(_Other.image_id == Result.image_id, _Other.model_version == new)
    return and_(Result.model_version == old, results.is_current(), ~answered)


def _as_claimed(image: Image, version: str, at: datetime) -> Claimed:
    return Claimed(image.id, image.batch_id, image.sha256, version, image.tenant, at, 1, 0)


def store(session: Session, run: ReclassificationRun, seen: Sequence[Seen], *, worker: str) -> Sequence[Seen]:
    """Keep what was seen anew where the original still stands, and return that; nothing is kept twice.

    The batches keep their state, and every original its row.
    """
    audit.hold_of(
        session, [before.image.batch_id for before, _ in seen]
    )  # one after the other, so that of two trainers the second sees what the first amended
    mine = Result.id.in_([before.result_id for before, _ in seen])
    standing = set(session.scalars(select(Result.id).where(mine, _stands(run.old_version, run.new_version))))
    kept = [(before, finding) for before, finding in seen if before.result_id in standing]
    if not kept:
        return []
    at = clock.read(session)
    rows = [queue.row_of(finding, worker, at) | {"amends": before.result_id} for before, finding in kept]
    tables.insert_rows(session, Result, rows)
    audit.append(session, worker, [_entry(run, before, row) for (before, _), row in zip(kept, rows, strict=True)])
    return kept


def _entry(run: ReclassificationRun, before: Outdated, row: dict[str, object]) -> Entry:
    detail = queue.told_of(row) | {"amends": before.result_id, "label_before": before.label, "run": run.id}
    return Entry("result.amended", f"image:{before.image.id}", before.image.batch_id, detail)
