"""The migrations make exactly the tables of the models, and can be taken back."""

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from db import migrate
from db.database import Database
from db.tables import Table


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
    directory = Path(migrate.__file__).with_name("migrations")
    assert ScriptDirectory(directory).get_current_head() == migrate.NEWEST
