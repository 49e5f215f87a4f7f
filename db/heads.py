"""The end of the audit, signed and kept outside the database: who cuts the chain there cannot cut it here."""

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy import select
from sqlalchemy.orm import Session

from db import clock
from db.tables import AuditHead

_PURPOSE = "cxr-batch audit head"


class HeadUnusable(Exception):
    """This is no signed head, or no key that is trusted signed it."""


@dataclass(frozen=True)
class Head:
    """Row `seq` was the last and had this hash; `key` is the public half of what signed that, in hexadecimal."""

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

    def check(self, trusted: str) -> None:
        """Raise HeadUnusable unless the trusted key signed exactly this."""
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(trusted))
            key.verify(bytes.fromhex(self.signature), _message(self.seq, self.hash, self.at))
        except (InvalidSignature, ValueError, TypeError) as error:
            raise HeadUnusable(f"the head of row {self.seq} is not signed by the key that is trusted") from error


class Heads:
    """A directory with an Ed25519 key that its owner alone can read, made at its first use, and what it signed."""

    def __init__(self, directory: Path) -> None:
        self._key = directory / "signing.key"
        self._file = directory / "heads.ndjson"

    @property
    def public(self) -> str | None:
        """The key to trust, None where there is none yet."""
        return _public(self._signing_key()) if self._key.exists() else None

    def sign(self, session: Session) -> Head:
        """Sign where the chain ends now, and keep that unless the last one kept says the same."""
        key = self._signing_key()
        end = session.scalars(select(AuditHead)).one()
        at = clock.read(session).isoformat(timespec="milliseconds")
        signature = key.sign(_message(end.seq, end.hash, at)).hex()
        head = Head(end.seq, end.hash, at, _public(key), signature)
        self._keep(head)
        return head

    def kept(self) -> Iterator[Head]:
        """Yield every head that was kept, checked against the directory's own key. Raises HeadUnusable."""
        if self.public and self._file.exists():
            yield from read(self._file, self.public)

    def _signing_key(self) -> Ed25519PrivateKey:
        if not self._key.exists():
            self._key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make(self._key)
        return Ed25519PrivateKey.from_private_bytes(self._key.read_bytes())

    def _keep(self, head: Head) -> None:
        with self._file.open("a+b") as file:
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


def hashes(heads: Iterable[Head]) -> Mapping[int, str]:
    """What each signed row hashed to."""
    return {head.seq: head.hash for head in heads}


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


def _message(seq: int, digest: str, at: str) -> bytes:
    return json.dumps([_PURPOSE, seq, digest, at]).encode()
