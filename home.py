"""This machine's own database, for the commands that work on it directly."""

import click

from db import migrate
from db.database import Database
from settings import Settings
from terminal import Exit, fail


def database(settings: Settings) -> Database:
    """Open it; ends the command where there is none, and where another server is meant."""
    if settings.url:
        fail(
            "this works on the database itself: run it on the server's own machine, without CXR_URL", status=Exit.USAGE
        )
    found = existing(settings)
    if found is None:
        fail("there is no database yet: run `cxr migrate` or `cxr up` first", code="no_database")
    return found


def existing(settings: Settings) -> Database | None:
    """Open it until the command ends; None where there is none yet."""
    found = migrate.existing(settings.database_url)
    if found:
        click.get_current_context().call_on_close(found.close)
    return found
