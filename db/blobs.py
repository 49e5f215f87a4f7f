"""Bytes kept under their SHA-256, in a directory that all machines share."""

import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO, BinaryIO, Self

# Two are enough to keep a disk's journal busy while the next bytes arrive.
_SYNCERS = 2
_WAITING = 64  # files that are open at once, whatever the batch


class Blobs:
    """A blob is written to `incoming/` and fsynced; settled, it is renamed to its hash and its directory fsynced."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._syncers = ThreadPoolExecutor(_SYNCERS, thread_name_prefix="fsync")
        self._places = BoundedSemaphore(_WAITING)

    def path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256

    def read(self, sha256: str) -> bytes:
        """Return the bytes, or raise FileNotFoundError, or BlobDamaged if they no longer hash to their name."""
        data = self.path(sha256).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BlobDamaged(sha256)
        return data

    def put(self, data: bytes) -> str:
        """Keep these bytes for good and return their SHA-256."""
        with self.delivery() as delivery:
            blob = delivery.open()
            blob.write(data)
            sha256 = blob.close()
            delivery.settle()
        return sha256

    @contextmanager
    def delivery(self) -> Iterator["Delivery"]:
        """Take in many blobs; what was not settled when the block ends is thrown away."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        delivery = Delivery(self)
        try:
            yield delivery
        finally:
            delivery.discard()

    def remove(self, sha256s: Iterable[str]) -> int:
        """Remove blobs that nothing needs any more, so that they stay removed, and return how many there were."""
        present = [path for path in map(self.path, sha256s) if path.exists()]
        for path in present:
            path.unlink(missing_ok=True)
        for directory in {path.parent for path in present}:
            _sync_directory(directory)
        return len(present)

    def free_bytes(self) -> int:
        self.root.mkdir(parents=True, exist_ok=True)
        disk = os.statvfs(self.root)
        return disk.f_bavail * disk.f_frsize

    def tidy(self, *, older_than_seconds: int) -> int:
        """Remove uploads that were cut off, and return how many."""
        removed = 0
        for leftover in self._incoming.glob("*"):
            with suppress(FileNotFoundError):  # an upload that was finished meanwhile
                if leftover.stat().st_mtime < time.time() - older_than_seconds:
                    leftover.unlink()
                    removed += 1
        return removed

    def temporary(self) -> Path:
        return self._incoming / secrets.token_hex(16)

    def nameless(self) -> IO[bytes]:
        return tempfile.TemporaryFile(dir=self._incoming)

    def sync(self, file: BinaryIO) -> Future[None]:
        """Bring one finished temporary file to the disk, in the background, and close it."""
        self._places.acquire()
        return self._syncers.submit(self._sync, file)

    def _sync(self, file: BinaryIO) -> None:
        try:
            with file:
                os.fsync(file.fileno())
        finally:
            self._places.release()


class BlobDamaged(Exception):
    """The bytes on the disk are not the bytes that were kept; the file was changed or the disk is failing."""


class Delivery:
    """Blobs that arrive together and become permanent together."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._writers: list[BlobWriter] = []

    def open(self) -> "BlobWriter":
        writer = BlobWriter(self._blobs)
        self._writers.append(writer)
        return writer

    def spool(self) -> IO[bytes]:
        """A file without a name, for bytes that may name a patient: it is gone with whoever holds it open."""
        return self._blobs.nameless()

    def settle(self) -> None:
        """Keep every closed blob for good: it survives a power cut. Raises OSError (ENOSPC) when the disk is full."""
        directories = {self._blobs.root}
        closed = [(writer, writer.synced) for writer in self._writers if writer.synced]
        for _, synced in closed:
            synced.result()
        for writer, _ in closed:
            target = self._blobs.path(writer.sha256)
            target.parent.mkdir(exist_ok=True)
            writer.path.replace(target)
            directories.add(target.parent)
        for directory in directories:
            _sync_directory(directory)

    def discard(self) -> None:
        for writer in self._writers:
            writer.discard()


class BlobWriter:
    """One blob while it arrives; hashed as it is written."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self.path = blobs.temporary()
        self._file: BinaryIO = self.path.open("xb", buffering=0)
        self._hash = hashlib.sha256()
        self.size = 0
        self.synced: Future[None] | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._hash.update(data)
        self.size += len(data)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> str:
        """Start bringing it to the disk and return its SHA-256; `Delivery.settle` keeps it."""
        self.synced = self._blobs.sync(self._file)
        return self.sha256

    def discard(self) -> None:
        """Forget a blob that was not settled; one that was stays, under its hash."""
        if self.synced:
            self.synced.exception()
        else:
            self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
