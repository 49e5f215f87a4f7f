"""Bring a database to the schema that this code expects."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.database import Database

NEWEST = "0010"
"""The last migration; a test compares it with the files."""

# Alembic is imported where it is used: it costs 0.2 s and 10 MB.
if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection


class SchemaOld(Exception):
    """The tables are not those that this code expects."""


def upgrade(database: Database, revision: str = "head") -> None:
    from alembic import command  # noqa: PLC0415

    with _changing(database) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(database: Database, revision: str = "base") -> None:
    from alembic import command  # noqa: PLC0415

    with _changing(database) as connection:
        command.downgrade(_config(connection), revision)


@contextmanager
def _changing(database: Database) -> Iterator["Connection"]:
    """One transaction for all of it.

    SQLite changes a table by making it anew, during which nothing may refer to it, so there references are
    checked once, at the end.
    """
    sqlite = database.engine.name == "sqlite"
    with database.engine.connect() as connection:
        if sqlite:
            connection.connection.execute("PRAGMA foreign_keys=OFF")  # has no effect inside a transaction
        try:
            with connection.begin():
                yield connection
                if sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise ReferencesBroken("a row refers to another that is not there; nothing was changed")
        finally:
            if sqlite:
                connection.connection.execute("PRAGMA foreign_keys=ON")


class ReferencesBroken(Exception):
    """The database holds rows that refer to nothing."""


def existing(url: str) -> Database | None:
    """Return the database if it is there and up to date; asking must not make one."""
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return None
    database = Database(url)
    return database if is_current(database) else None


def is_current(database: Database) -> bool:
    """Whether every migration has been applied; a server that finds this false must not serve."""
    with database.read() as session:
        connection = session.connection()
        if not connection.dialect.has_table(connection, "alembic_version"):
            return False
        applied: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return applied == NEWEST


def require_current(database: Database) -> None:
    """Raise SchemaOld before a process works with the wrong tables."""
    if not is_current(database):
        raise SchemaOld("the database has another schema: run `cxr migrate`")


def _config(connection: "Connection") -> "Config":
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    return config
