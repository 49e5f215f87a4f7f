"""The database's clock, so that leases never depend on a worker's."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Integer, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class Moment(TypeDecorator[datetime]):
    """A point in time: UTC, always aware. SQLite keeps none of the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """`now()` or `now(seconds)`: the database's present, moved by whole seconds."""

    type = Moment()
    inherit_cache = True

    def __init__(self, seconds: int = 0) -> None:
        super().__init__(literal(int(seconds), Integer))


@compiles(now, "sqlite")
def _sqlite(element: now, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    # SQLAlchemy's own text form has six digits after the point; %f gives three.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {seconds} || ' seconds')"


@compiles(now, "postgresql")
def _postgresql(element: now, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    # clock_timestamp, not now(): a lease counts from the claim, not from the start of its transaction.
    return f"(clock_timestamp() + make_interval(secs => {seconds}))"


def read(session: Session) -> datetime:
    """Ask the database for the time."""
    return session.scalars(select(now())).one()
