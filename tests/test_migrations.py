"""The migrations make exactly the tables of the models, and can be taken back."""

import hashlib
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from db import migrate
from db.database import Database
from db.tables import Table

SCRIPTS = ScriptDirectory(Path(migrate.__file__).with_name("migrations"))


def test_up_down_up_gives_the_models_tables(database_url: str) -> None:
    database = Database(database_url)
    assert not migrate.is_current(database)
    migrate.upgrade(database)
    migrate.downgrade(database)
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    migrate.upgrade(database)
    assert migrate.is_current(database)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []
    database.close()


def test_the_newest_migration_is_the_one_that_a_server_asks_for() -> None:
    assert SCRIPTS.get_current_head() == migrate.NEWEST


def test_a_key_is_found_by_its_sha_256_whether_it_was_kept_plain_or_so() -> None:
    """Even where one that was kept plain is the SHA-256 of another."""
    looked_for = {sha256("plain"): 1, sha256(sha256("plain")): 2, sha256("kept so"): 3}
    kept = {"plain": 1, sha256("plain"): 2, sha256("kept so"): 3}
    rows = [{"tenant": "default", "key": key, "body": body} for key, body in kept.items()]
    found = {row["key"]: row["body"] for row in SCRIPTS.get_revision("0024").module.hashed(rows)}
    assert found.items() >= looked_for.items()
    assert "plain" not in found


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
