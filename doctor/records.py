"""What the database says: that it answers, its schema, its clock, the workers' signs of life."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from db import clock, heartbeats, migrate
from db.database import Database
from doctor.finding import Finding, failed, warning, well
from settings import Settings

DRIFT_SECONDS = 5
"""So far two clocks may be apart: leases last a minute, and results are ordered by them."""

_SQLITE = "sqlite:///"


def check_database(settings: Settings) -> Iterator[Finding]:
    """The database, and what it alone can tell."""
    url = settings.database_url
    if url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE)).exists():
        yield failed("database", f"there is none at {url.removeprefix(_SQLITE)}", "run `cxr migrate` or `cxr up`")
        return
    database = Database(url)
    try:
        name = f"{database.engine.name} at {database.engine.url.host or database.engine.url.database}"
        with database.read() as session:
            there = clock.read(session)
        here = datetime.now(UTC)
        yield well("database", f"{name} answers")
        yield check_clock("the database", there, here)
        applied = migrate.applied(database)
        yield _schema(applied)
        if applied == migrate.NEWEST:
            yield _workers(database)
    except DBAPIError as error:
        mend = "start it, or check DATABASE_URL, its password and the network"
        yield failed("database", f"{name} does not answer ({type(error.orig).__name__})", mend)
    finally:
        database.close()


def check_clock(whose: str, there: datetime, here: datetime) -> Finding:
    apart = abs((there - here).total_seconds())
    if apart > DRIFT_SECONDS:
        seen = f"{whose} says {there:%H:%M:%S}, this machine {here:%H:%M:%S} UTC: {apart:.0f} s apart"
        return failed("clock", seen, "let both follow one time server: chrony, or systemd-timesyncd")
    return well("clock", f"{whose} and this machine agree")


def _schema(applied: str | None) -> Finding:
    if applied == migrate.NEWEST:
        return well("schema", f"{applied}, as this code expects")
    if applied and applied > migrate.NEWEST:
        seen = f"{applied} is newer than this code, which knows {migrate.NEWEST}"
        return failed("schema", seen, "bring the newer code, or go back to the backup from before the upgrade")
    seen = f"{applied or 'none'}, this code expects {migrate.NEWEST}"
    return failed("schema", seen, "back up, then run `cxr migrate` (`cxr up` does it)")


def _workers(database: Database) -> Finding:
    with database.read() as session:
        signs = heartbeats.signs(session)
    alive = [sign for sign in signs if sign.alive]
    ill = [f"{sign.worker}: {sign.problem}" for sign in alive if sign.problem]
    if not alive:
        seen = f"none was heard of in the last {heartbeats.SILENT_SECONDS} s; images wait in the queue"
        return failed("workers", seen, "start one with `cxr up` or `cxr worker`; its log says why if it ends")
    if ill:
        return failed("workers", "; ".join(ill), "mend what they name; they go on by themselves")
    silent = len(signs) - len(alive)
    if silent:
        return warning("workers", f"{len(alive)} well, {silent} silent", "read the logs of those that fell silent")
    return well("workers", f"{len(alive)} well")
