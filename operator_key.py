"""The operator's own key: made by the first `cxr up`, kept in CXR_HOME for the command line on this machine."""

import os

from settings import Settings
from terminal import operator

_FILE = "key"


def make_first(settings: Settings) -> str | None:
    """Make a key for everything where the database has none yet, keep it, and return it; else return None."""
    from db import audit, keys, tenancy  # noqa: PLC0415 - who only knows a key need not load SQLAlchemy
    from db.database import Database  # noqa: PLC0415

    database = Database(settings.database_url)
    try:
        with audit.coming_from(operator()[1]), database.write() as session:
            audit.hold(session)  # two machines may start on one database at once
            if keys.any_made(session):
                return None
            key = keys.create(session, tenancy.DEFAULT, frozenset(keys.Scope), name="first", actor=operator()[0])
            keep(settings, key)
    finally:
        database.close()
    return key


def keep(settings: Settings, key: str) -> None:
    """Write the key where only its owner can read it."""
    unfinished = settings.home / f".{_FILE}.part"
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{key}\n")
    unfinished.replace(settings.home / _FILE)


def known(settings: Settings) -> str | None:
    """The key that the command line shows: CXR_KEY, else the one of CXR_HOME, which no other server may see."""
    if settings.key or settings.url:
        return settings.key or None
    try:
        return (settings.home / _FILE).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def link(settings: Settings, url: str) -> str | None:
    """An address that signs one browser in, once, as the key of this machine; None where there is none that opens."""
    from db import keys, sign_ins  # noqa: PLC0415 - as above
    from db.database import Database  # noqa: PLC0415

    key, database = known(settings), Database(settings.database_url)
    try:
        with database.write() as session:
            return (
                None
                if key is None
                else f"{url}/sign-in?code={sign_ins.link(session, keys.caller(session, key).key_id)}"
            )
    except keys.KeyRefused:
        return None
    finally:
        database.close()
