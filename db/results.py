"""Results by themselves: one by its id, and a search over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, exists, select
from sqlalchemy.orm import Session, aliased

from db.tables import Image, Label, Result

_Later = aliased(Result)


@dataclass(frozen=True)
class Found:
    """One result with the image that it is of; where `amended_by` another, that one stands in its place."""

    result: Result
    image: Image
    amended_by: str | None


@dataclass(frozen=True)
class Search:
    """What is looked for; None is everything. Times are those of the result, `since` included, `until` not."""

    accession: str | None = None
    model: str | None = None
    label: Label | None = None
    since: datetime | None = None
    until: datetime | None = None


def one(session: Session, result_id: str) -> Found | None:
    row = session.execute(_joined().where(Result.id == result_id)).one_or_none()
    return None if row is None else Found(*row)


def newest(session: Session, search: Search, *, limit: int, after: str | None = None) -> Sequence[Found]:
    """Return what matches, newest first; `after` is the id of the last one already seen."""
    wanted = _joined().order_by(Result.id.desc()).limit(limit)
    conditions = (
        (search.accession, Image.accession.__eq__),
        (search.model, Result.model_version.__eq__),
        (search.label, Result.label.__eq__),
        (search.since, Result.created_at.__ge__),
        (search.until, Result.created_at.__lt__),
        (after, Result.id.__lt__),
    )
    for value, condition in conditions:
        if value is not None:
            wanted = wanted.where(condition(value))
    return [Found(*row) for row in session.execute(wanted)]


def is_current() -> ColumnElement[bool]:
    """Nothing amends it."""
    return ~exists().where(_Later.amends == Result.id)


def _joined() -> Select[Result, Image, str | None]:
    return (
        select(Result, Image, _Later.id)
        .join(Image, Image.id == Result.image_id)
        .outerjoin(_Later, _Later.amends == Result.id)
    )
