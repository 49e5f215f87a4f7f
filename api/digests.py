"""`Content-Digest` (RFC 9530): whether the bytes that came are the bytes that were sent."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Request

from api.problems import Problem

_ALGORITHMS = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):\s*")


@contextmanager
def checked(request: Request, body: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """Hand the body through; at the end read what is left, and raise Problem if it is not what the header says."""
    expected = _expected(request.headers.get("Content-Digest"))
    hashes = {name: _ALGORITHMS[name]() for name in expected}

    def hashed() -> Iterator[bytes]:
        for chunk in body:
            for one in hashes.values():
                one.update(chunk)
            yield chunk

    through = hashed()
    yield through
    for _ in through:
        pass
    if any(hashes[name].digest() != digest for name, digest in expected.items()):
        words = "The bytes that came do not match Content-Digest; send them again."
        raise Problem(400, "digest_mismatch", words, retryable=True)


def _expected(header: str | None) -> dict[str, bytes]:
    """The digests that can be checked; others are passed over, as the RFC allows."""
    if header is None:
        return {}
    found: dict[str, bytes] = {}
    for member in header.split(","):
        told = _MEMBER.fullmatch(member)
        if not told:
            raise Problem(400, "digest_invalid", "Write Content-Digest as `sha-256=:<base64>:`, as in RFC 9530.")
        if told[1] in _ALGORITHMS:
            found[told[1]] = _decoded(told[2], _ALGORITHMS[told[1]]().digest_size)
    return found


def _decoded(text: str, size: int) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != size:
        raise Problem(400, "digest_invalid", f"A digest of {size} bytes is needed, in base64.")
    return digest
