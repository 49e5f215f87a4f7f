"""Databases at the newest schema: migrated once in a process, then copied, since the migrations take longer than most tests."""

import tempfile
from functools import cache
from pathlib import Path

from db import migrate
from db.database import Database
from tests.postgres import Postgres


def sqlite(path: Path) -> str:
    """Write a migrated database there, and return its URL."""
    path.write_bytes(_sqlite())
    return f"sqlite:///{path}"


def postgresql(server: Postgres) -> str:
    """Create a migrated database, and return its URL."""
    return server.database(template=_postgresql(server))


@cache
def _sqlite() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "migrated.db"
        _migrate(f"sqlite:///{path}")
        return path.read_bytes()


@cache
def _postgresql(server: Postgres) -> str:
    url = server.database()
    _migrate(url)
    return url.rsplit("/", 1)[1]


def _migrate(url: str) -> None:
    database = Database(url)
    migrate.upgrade(database)
    database.close()
