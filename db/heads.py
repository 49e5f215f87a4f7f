"""The end of every chain, signed and kept outside the database: who cuts one there cannot cut it here."""

import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy import select
from sqlalchemy.orm import Session

from db import clock, tenancy
from db.chains import AuditHead
from db.proof import Signed, Verdict

_ENDS = "cxr-batch audit head"
_PRUNED = "cxr-batch audit pruned"
_SYSTEM = "_system"


class HeadUnusable(Exception):
    """This is no signed head, or no key that is trusted signed it."""


@dataclass(frozen=True)
class Head:
    """Row `seq` of the tenant's chain had this hash; `key` is the public half of what signed that, in hexadecimal."""

    tenant: str
    seq: int
    hash: str
    at: str
    key: str
    signature: str

    @classmethod
    def read(cls, line: str) -> Self:
        """Return what a line holds. Raises HeadUnusable."""
        try:
            return cls(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise HeadUnusable("this is no signed head") from error

    def line(self) -> str:
        return json.dumps(asdict(self))

    def check(self, trusted: str, *, purpose: str = _ENDS) -> None:
        """Raise HeadUnusable unless the trusted key signed exactly this, and for this purpose."""
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(trusted))
            key.verify(bytes.fromhex(self.signature), _message(purpose, self.tenant, self.seq, self.hash, self.at))
        except (InvalidSignature, ValueError, TypeError) as error:
            raise HeadUnusable(
                f"the head of row {self.seq} of {self.tenant} is not signed by the key that is trusted"
            ) from error


class Heads:
    """A directory with an Ed25519 key that its owner alone can read, made at its first use, and what it signed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = directory / "signing.key"

    @property
    def public(self) -> str | None:
        """The key to trust, None where there is none yet."""
        return _public(self._signing_key()) if self._key.exists() else None

    def sign(self, session: Session) -> list[Head]:
        """Sign where each chain ends now, and keep what the last one kept of it does not say."""
        at = clock.read(session).isoformat(timespec="milliseconds")
        ends = session.scalars(select(AuditHead).order_by(AuditHead.tenant))
        heads = [self._signed(_ENDS, end.tenant, end.seq, end.hash, at) for end in ends]
        for head in heads:
            self._keep(head)
        return heads

    def checkpoint(self, tenant: str, seq: int, digest: str, at: str) -> Head:
        """Sign that the rows up to this one may be gone; the end of a chain passes for no such thing."""
        return self._signed(_PRUNED, tenant, seq, digest, at)

    def kept(self) -> Iterator[Head]:
        """Yield every head that was kept, checked against the directory's own key. Raises HeadUnusable."""
        if self.public:
            for file in sorted(self._directory.glob("*.ndjson")):
                yield from read(file, self.public)

    def _signed(self, purpose: str, tenant: str, seq: int, digest: str, at: str) -> Head:
        key = self._signing_key()
        signature = key.sign(_message(purpose, tenant, seq, digest, at)).hex()
        return Head(tenant, seq, digest, at, _public(key), signature)

    def _signing_key(self) -> Ed25519PrivateKey:
        if not self._key.exists():
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make(self._key)
        return Ed25519PrivateKey.from_private_bytes(self._key.read_bytes())

    def _keep(self, head: Head) -> None:
        name = _SYSTEM if head.tenant == tenancy.SYSTEM else head.tenant  # no tenant's name begins so
        with (self._directory / f"{name}.ndjson").open("a+b") as file:
            file.seek(0)
            whole, ended, torn = file.read().rpartition(b"\n")
            if torn:
                file.truncate(len(whole + ended))  # the power went while it was written
            if whole and Head.read(whole.rpartition(b"\n")[2].decode()).hash == head.hash:
                return
            file.write(head.line().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def read(file: Path, trusted: str) -> Iterator[Head]:
    """Yield the heads of a file, each checked. Raises HeadUnusable."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            head = Head.read(line)
            head.check(trusted)
            yield head


def hashes(heads: Iterable[Head]) -> Signed:
    """What each signed row hashed to."""
    return {(head.tenant, head.seq): head.hash for head in heads}


def vouch(verdict: Verdict, trusted: str | None) -> None:
    """Raise HeadUnusable unless the trusted key signed every checkpoint that stands for rows that are gone."""
    for told in verdict.pruned:
        Head.read(json.dumps(told)).check(trusted or "", purpose=_PRUNED)


def _make(path: Path) -> None:
    """Of two who make it at once the first wins, and nobody sees half of it."""
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    raw = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):
        path.hardlink_to(unfinished)
    unfinished.unlink()


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def _message(purpose: str, tenant: str, seq: int, digest: str, at: str) -> bytes:
    return json.dumps([purpose, tenant, seq, digest, at]).encode()
