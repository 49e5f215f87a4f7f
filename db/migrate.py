"""Bring a database to the schema that this code expects."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from db.database import Database

NEWEST = "0026"
"""The last migration; a test compares it with the files."""

# Alembic is imported where it is used: it costs 0.2 s and 10 MB.
if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection


class SchemaOld(Exception):
    """The tables are not those that this code expects."""


def upgrade(database: Database, revision: str = "head") -> None:
    from alembic import command  # noqa: PLC0415

    with _rebuilding(database) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(database: Database, revision: str = "base") -> None:
    from alembic import command  # noqa: PLC0415

    with _rebuilding(database) as connection:
        command.downgrade(_config(connection), revision)


@contextmanager
def _rebuilding(database: Database) -> Iterator["Connection"]:
    """One transaction in which SQLite lets a table be made anew that others refer to."""
    sqlite = database.engine.name == "sqlite"
    with database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        if sqlite:
            driver.execute("PRAGMA foreign_keys=OFF")  # without effect inside a transaction
        try:
            with connection.begin():
                yield connection
                if sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
                    raise RuntimeError(f"the migration broke a reference of {broken[0]}")
        finally:
            if sqlite:
                driver.execute("PRAGMA foreign_keys=ON")


def existing(url: str) -> Database | None:
    """Return the database if it is there and up to date; asking must not make one."""
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return None
    database = Database(url)
    return database if is_current(database) else None


def is_current(database: Database) -> bool:
    """Whether every migration has been applied; a server that finds this false must not serve."""
    return applied(database) == NEWEST


def applied(database: Database) -> str | None:
    """The last migration that was applied; None where there is none."""
    with database.read() as session:
        connection = session.connection()
        if not connection.dialect.has_table(connection, "alembic_version"):
            return None
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


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
