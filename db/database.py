"""One database, SQLite or PostgreSQL: a transaction that reads, a transaction that writes."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from db import failures, tenancy

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

_KEEPALIVE = {
    # A peer that vanished without a word is noticed within half a minute, not after the system's two hours.
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
_PAUSE_SECONDS = 1
_FULL = ("database or disk is full", "No space left on device")


class Database:
    """Hands out transactions; `write` commits at the end of its block and rolls back on any exception.

    As it is made it is the system's and sees every hospital; `of` gives what one hospital sees.
    """

    def __init__(self, url: str) -> None:
        self.url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        self.engine = _sqlite(self.url) if self.url.startswith("sqlite") else _postgresql(self.url)
        self.readers = self.engine.execution_options(cxr_reads=True, **_one_snapshot(self.engine))

    def of(self, tenant: str) -> Self:
        """The same database, as one hospital sees it."""
        theirs = copy(self)
        theirs.engine = self.engine.execution_options(**{tenancy.OPTION: tenant})
        theirs.readers = self.readers.execution_options(**{tenancy.OPTION: tenant})
        return theirs

    @contextmanager
    def read(self) -> Iterator[Session]:
        with Session(self.readers) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def patiently(self, action: Callable[[], _Answer]) -> _Answer:
        """Call until the server answers: a process that starts in an outage waits it out."""
        while True:
            try:
                return action()
            except OperationalError as error:
                if self.engine.name == "sqlite":  # a file comes to nobody who waits
                    raise
                log.warning("the database does not answer, trying again: %s", error.orig)
            time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        self.engine.dispose()


def is_full(error: DBAPIError) -> bool:
    """Whether the database's disk has no room left."""
    return any(words in str(error.orig) for words in _FULL)


def _postgresql(url: str) -> Engine:
    engine = create_engine(
        url, pool_pre_ping=True, pool_size=10, max_overflow=10, hide_parameters=True, connect_args=_KEEPALIVE
    )
    event.listen(engine, "begin", tenancy.announce)
    event.listen(engine, "handle_error", failures.quieten)
    return engine


def _one_snapshot(engine: Engine) -> dict[str, str]:
    """What makes all that a reader sees be of one moment; SQLite does it by itself."""
    return {} if engine.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}


def _sqlite(url: str) -> Engine:
    # Parameters hold the names of files, and an error that quotes them goes to a log.
    engine = create_engine(url, pool_size=10, max_overflow=10, connect_args={"timeout": 30}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN is deferred and would deadlock two writers
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("cxr_reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
