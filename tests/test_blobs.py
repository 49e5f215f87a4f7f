"""Bytes kept under their SHA-256."""

import hashlib
import os
from pathlib import Path

import pytest

from db.blobs import BlobDamaged, Blobs


def leftovers(blobs: Blobs) -> list[Path]:
    return list((blobs.root / "incoming").glob("*"))


def test_bytes_come_back_by_their_hash(blobs: Blobs) -> None:
    sha256 = blobs.put(b"some bytes")
    assert sha256 == hashlib.sha256(b"some bytes").hexdigest()
    assert blobs.read(sha256) == b"some bytes"
    assert leftovers(blobs) == []


def test_the_same_bytes_twice_are_one_file(blobs: Blobs) -> None:
    assert blobs.put(b"x") == blobs.put(b"x")
    assert len([path for path in blobs.root.rglob("*") if path.is_file()]) == 1


def test_damaged_bytes_are_not_given_out(blobs: Blobs) -> None:
    sha256 = blobs.put(b"some bytes")
    blobs.path(sha256).write_bytes(b"other bytes")
    with pytest.raises(BlobDamaged):
        blobs.read(sha256)


def test_a_delivery_that_is_broken_off_leaves_nothing(blobs: Blobs) -> None:
    with pytest.raises(ConnectionError), blobs.delivery() as delivery:
        delivery.open().write(b"half of an ima")
        raise ConnectionError
    assert leftovers(blobs) == []


def test_uploads_of_a_killed_server_are_tidied_up(blobs: Blobs) -> None:
    blobs.put(b"x")
    dead, young = blobs.root / "incoming" / "dead", blobs.root / "incoming" / "young"
    dead.touch()
    young.touch()
    os.utime(dead, (1, 1))
    assert blobs.tidy(older_than_seconds=3600) == 1
    assert leftovers(blobs) == [young]
