"""Results of one model version seen anew by another: amendments beside the originals, which stay as they were."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, func, select
from sqlalchemy.orm import Session, aliased

from db import audit, clock, queue, results, tables
from db.audit import Entry
from db.queue import Claimed, Finding
from db.tables import Batch, Image, Label, Result

Changes = Mapping[tuple[Label, Label], int]
"""How many went from one label to another, or stayed."""

_Other = aliased(Result)


@dataclass(frozen=True)
class Outdated:
    """A result that still stands and the image to be seen anew, as if `model_version` had claimed it."""

    result_id: str
    label: Label
    image: Claimed
    purged_at: datetime | None


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


def count(session: Session, old: str, new: str) -> int:
    """How many results of `old` are there to be amended."""
    return session.scalars(select(func.count()).select_from(Result).where(_stands(old, new))).one()


def _stands(old: str, new: str) -> ColumnElement[bool]:
    """Nothing amends it, and the image has no answer of the new version, which would be a second one."""
    answered = exists().where(_Other.image_id == Result.image_id, _Other.model_version == new)
    return and_(Result.model_version == old, results.is_current(), ~answered)


def _as_claimed(image: Image, version: str, at: datetime) -> Claimed:
    return Claimed(image.id, image.batch_id, image.sha256, version, image.tenant, at, 1, 0)


def store(
    session: Session, old: str, new: str, seen: Sequence[tuple[Outdated, Finding]], *, actor: str, worker: str
) -> Changes:
    """Keep what was seen anew where the original still stands, and return what changed; nothing is kept twice.

    The batches keep their state, and every original its row.
    """
    audit.hold_of(
        session, [before.image.batch_id for before, _ in seen]
    )  # one after the other, so that of two commands the second sees what the first amended
    mine = Result.id.in_([before.result_id for before, _ in seen])
    standing = set(session.scalars(select(Result.id).where(mine, _stands(old, new))))
    kept = [(before, finding) for before, finding in seen if before.result_id in standing]
    if not kept:
        return {}
    at = clock.read(session)
    rows = [queue.row_of(finding, worker, at) | {"amends": before.result_id} for before, finding in kept]
    tables.insert_rows(session, Result, rows)
    audit.append(session, actor, [_entry(before, row) for (before, _), row in zip(kept, rows, strict=True)])
    return Counter((before.label, finding.label) for before, finding in kept)


def _entry(before: Outdated, row: dict[str, object]) -> Entry:
    detail = queue.told_of(row) | {"amends": before.result_id, "label_before": before.label}
    return Entry("result.amended", f"image:{before.image.id}", before.image.batch_id, detail)


def changes(session: Session, old: str, new: str) -> Changes:
    """What all amendments of `old` by `new` changed, whenever they were made."""
    rows = session.execute(
        select(Result.label, _Other.label, func.count())
        .join(_Other, _Other.amends == Result.id)
        .where(Result.model_version == old, _Other.model_version == new)
        .group_by(Result.label, _Other.label)
    )
    return {(Label(before), Label(after)): number for before, after, number in rows}
