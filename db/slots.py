"""Turns of scheduled tasks: the first to take a slot runs it, so that a second beat is harmless."""

from datetime import datetime

from sqlalchemy import Text, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from db.clock import Moment, now
from db.database import Database
from db.tables import Table


class Slot(Table):
    """A scheduled task's turn; its key makes a second beat harmless."""

    __tablename__ = "slots"
    task: Mapped[str] = mapped_column(Text, primary_key=True)
    slot: Mapped[str] = mapped_column(Text, primary_key=True)
    taken_at: Mapped[datetime] = mapped_column(Moment)


def take(database: Database, task: str, *, digits: int) -> bool:
    """Return whether this call is the first of its slot: the database's time, cut after `digits` characters.

    13 characters of 2026-11-22T03:… are an hour, 10 are a day.
    """
    with database.read() as session:
        slot = session.scalars(select(now())).one().isoformat()[:digits]
    try:
        with database.write() as session:
            session.execute(insert(Slot).values(task=task, slot=slot, taken_at=now()))
    except IntegrityError:
        return False
    return True
