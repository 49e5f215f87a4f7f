"""Browsers that signed in with a key, and links that sign one in once; only hashes of their tokens are kept."""

import hashlib
import secrets
from datetime import datetime

from sqlalchemy import Boolean, ForeignKey, Text, delete, insert, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from db import keys
from db.clock import Moment, now
from db.keys import ApiKey, Caller
from db.tables import Table

SECONDS = 12 * 3600
LINK_SECONDS = 3600


class SignIn(Table):
    """A signed-in browser; not yet `followed`, a link. It lives no longer than its key."""

    __tablename__ = "sign_ins"
    token_sha256: Mapped[str] = mapped_column(Text, primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    followed: Mapped[bool] = mapped_column(Boolean)
    expires_at: Mapped[datetime] = mapped_column(Moment)


def begin(session: Session, key_id: str) -> str:
    """Sign a browser in, and return the token that it shows from now on."""
    return _add(session, key_id, followed=True, seconds=SECONDS)


def link(session: Session, key_id: str) -> str:
    """Return a code that signs one browser in, once, within the hour."""
    return _add(session, key_id, followed=False, seconds=LINK_SECONDS)


def follow(session: Session, code: str) -> str | None:
    """Return a token for a link's code, or None where it was followed before, is over, or never was."""
    key_id = session.scalar(
        delete(SignIn)
        .where(SignIn.token_sha256 == _hashed(code), ~SignIn.followed, SignIn.expires_at > now())
        .returning(SignIn.key_id)
    )
    return None if key_id is None else begin(session, key_id)


def caller(session: Session, token: str) -> Caller | None:
    """Return whom a signed-in browser speaks for, or None; the session is the system's."""
    mine = (SignIn.token_sha256 == _hashed(token)) & SignIn.followed & (SignIn.expires_at > now())
    found = session.execute(select(ApiKey, now()).join(SignIn, SignIn.key_id == ApiKey.id).where(mine)).one_or_none()
    try:
        return None if found is None else keys.opened(*found)
    except keys.KeyRefused:
        return None


def end(session: Session, token: str) -> None:
    session.execute(delete(SignIn).where(SignIn.token_sha256 == _hashed(token)))


def forget(session: Session) -> None:
    """Drop those that are over."""
    session.execute(delete(SignIn).where(SignIn.expires_at < now()))


def _add(session: Session, key_id: str, *, followed: bool, seconds: int) -> str:
    token = secrets.token_urlsafe(32)
    row = {"token_sha256": _hashed(token), "key_id": key_id, "followed": followed, "expires_at": now(seconds)}
    session.execute(insert(SignIn).values(row))
    return token


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
