"""API keys: who may do what for which hospital; only a hash of each secret is kept."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import JSON, Text, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from db import audit, clock
from db.clock import Moment, now
from db.tables import Table
from db.tenancy import Owned

DAYS = 365
SHORTEST_DAYS, LONGEST_DAYS = 1, 3650
_ID_BYTES = 6
_SECRET_BYTES = 20  # 160 random bits
_FORM = re.compile(r"cxr_([0-9a-f]{12})_([0-9a-f]{40})")
_NOTED = timedelta(hours=1)


class Scope(StrEnum):
    """What a key may do; none includes another."""

    SUBMIT = "submit"
    READ = "read"
    REVIEW = "review"
    ADMIN = "admin"
    AUDIT = "audit"


class KeyState(StrEnum):
    OPEN = "open"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ApiKey(Owned, Table):
    """A key of one hospital. The secret itself is nowhere: it is shown once, when the key is made."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    person: Mapped[str | None] = mapped_column(Text, unique=True)
    secret_sha256: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
    last_used_at: Mapped[datetime | None] = mapped_column(Moment)


@dataclass(frozen=True)
class Caller:
    """Whom a request speaks for; `unnoted` where the key's use was not noted within the hour."""

    key_id: str
    tenant: str
    scopes: frozenset[Scope]
    unnoted: bool

    @property
    def actor(self) -> str:
        """The name that the audit knows the caller by."""
        return f"key:{self.key_id}"


class KeyRefused(Exception):
    """The key opens nothing: `code` is key_invalid, key_expired or key_revoked."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class KeyUnknown(Exception):
    """There is no key of this id."""


def create(
    session: Session,
    tenant: str,
    scopes: Collection[Scope],
    *,
    name: str,
    actor: str,
    days: int = DAYS,
    person: str | None = None,
) -> str:
    """Make a key and return it whole; it cannot be read again.

    One that names a `person` also opens the pages to whom the sign-in provider calls so.
    """
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES)
    created_at = clock.read(session)
    session.add(
        ApiKey(
            id=key_id,
            tenant=tenant,
            name=name,
            person=person,
            secret_sha256=_hashed(secret),
            scopes=sorted(scopes),
            created_at=created_at,
            expires_at=created_at + timedelta(days=days),
            revoked_at=None,
            last_used_at=None,
        )
    )
    session.flush()
    detail = {"tenant": tenant, "scopes": sorted(scopes), "days": days}
    audit.append(session, actor, [audit.Entry("key.created", f"key:{key_id}", None, detail, tenant)])
    return f"cxr_{key_id}_{secret}"


def id_of(key: str) -> str:
    """Return the id that stands in a key that `create` made."""
    return key.split("_")[1]


def _hashed(secret: str) -> str:
    """A fast hash is right here: slow ones protect words that can be guessed, and 160 random bits cannot be."""
    return hashlib.sha256(secret.encode()).hexdigest()


def caller(session: Session, key: str) -> Caller:
    """Return whom the key speaks for, or raise KeyRefused; the session is the system's."""
    form = _FORM.fullmatch(key)
    found = session.execute(select(ApiKey, now()).where(ApiKey.id == form[1])).one_or_none() if form else None
    if form is None or found is None or not hmac.compare_digest(found[0].secret_sha256, _hashed(form[2])):
        raise KeyRefused("key_invalid")
    return opened(*found)


def opened(key: ApiKey, present: datetime) -> Caller:
    """Return whom a key speaks for whose secret was shown, or raise KeyRefused."""
    if key.revoked_at:
        raise KeyRefused("key_revoked")
    if key.expires_at <= present:
        raise KeyRefused("key_expired")
    unnoted = key.last_used_at is None or key.last_used_at < present - _NOTED
    return Caller(key.id, key.tenant, frozenset(map(Scope, key.scopes)), unnoted)


def note_use(session: Session, key_id: str) -> None:
    """Remember, to the hour, that the key is still in use."""
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now()))


def of_person(session: Session, person: str) -> ApiKey | None:
    """Return the open key that names this person, or None; the session is the system's."""
    found = session.execute(select(ApiKey, now()).where(ApiKey.person == person)).one_or_none()
    try:
        return found[0] if found and opened(*found) else None
    except KeyRefused:
        return None


def revoke(session: Session, key_id: str, *, actor: str) -> None:
    """Close the key from now on; a second time changes nothing. Raises KeyUnknown."""
    key = find(session, key_id)
    if key.revoked_at is None:
        key.revoked_at = clock.read(session)
        audit.append(
            session, actor, [audit.Entry("key.revoked", f"key:{key_id}", None, {"tenant": key.tenant}, key.tenant)]
        )


def find(session: Session, key_id: str) -> ApiKey:
    """Return the key, if the session may see it. Raises KeyUnknown."""
    key = session.scalar(select(ApiKey).where(ApiKey.id == key_id))
    if key is None:
        raise KeyUnknown(key_id)
    return key


def state(key: ApiKey, present: datetime) -> KeyState:
    """Whether it still opens anything."""
    if key.revoked_at:
        return KeyState.REVOKED
    return KeyState.EXPIRED if key.expires_at <= present else KeyState.OPEN


def every(session: Session) -> Sequence[ApiKey]:
    """Return the keys that the session may see, oldest first."""
    return session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)).all()


def any_made(session: Session) -> bool:
    return bool(session.scalar(select(func.count()).select_from(ApiKey)))
