"""Zip archives: every entry is read through a count of its real bytes, and names never become paths."""

import errno
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO

from api.problems import Problem
from settings import Settings

_CHUNK = 256 * 1024
_RATIO_COUNTS_FROM = 1 << 20
_ENCRYPTED = 0x1
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # a dictionary of LZMA may be 4 GiB
_LONGEST_DIRECTORY_ENTRY = 2048
# What zipfile raises over damage; an OSError counts only where the kernel refused a senseless offset.
_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    EOFError,
    ValueError,
    OverflowError,
    OSError,
)


def entries(descriptor: int, settings: Settings) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield (name, data) of every file in the open archive, each to be read before the next. Raises Problem."""
    with _Spool(descriptor, settings.max_images) as spool:
        with _damage_refused():
            archive = zipfile.ZipFile(spool)
        with archive:
            # Not is_dir(), which looks at the last letter of a name that may have none.
            files = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
            _check(files, settings)
            for entry in files:
                yield entry.filename, _read(archive, entry, settings)


@contextmanager
def _damage_refused() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:
            raise  # the disk, not the archive
        raise Problem(422, "zip_damaged", "The zip cannot be read; make it again and send it again.") from error


class _Spool(io.FileIO):
    """The archive's file; zipfile would read a directory of any length into memory."""

    def __init__(self, descriptor: int, max_entries: int) -> None:
        super().__init__(descriptor, closefd=False)
        self._longest_read = max(max_entries * _LONGEST_DIRECTORY_ENTRY, 4 * _CHUNK)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._longest_read:
            raise zipfile.BadZipFile("a directory longer than its entries can make it")
        return super().read(size) or b""


def _check(files: list[zipfile.ZipInfo], settings: Settings) -> None:
    if len(files) > settings.max_images:
        raise Problem(413, "too_many_images", f"A batch holds at most {settings.max_images} images.")
    for entry in files:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            raise Problem(422, "zip_unsafe_name", "The zip holds a name with ../ or an absolute path.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise Problem(422, "zip_link", "The zip holds a link; send the files themselves.")
        if entry.flag_bits & _ENCRYPTED:
            raise Problem(422, "zip_encrypted", "The zip is encrypted; send it without a password.")
        if entry.compress_type not in _METHODS:
            raise Problem(422, "zip_method", "The zip is compressed by a rare method; make it with deflate.")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, settings: Settings) -> Iterator[bytes]:
    size, most = 0, max(_RATIO_COUNTS_FROM, entry.compress_size * settings.max_zip_growth)
    with _damage_refused():
        data = archive.open(entry)
    with data:
        while chunk := _next(data):
            size += len(chunk)
            if size > min(most, settings.max_batch_bytes):
                raise Problem(413, "zip_bomb", "The zip holds a file that grows beyond measure.")
            yield chunk


def _next(data: IO[bytes]) -> bytes:
    # Not around the yield: what the reader of the chunk raises is no damage to the zip.
    with _damage_refused():
        return data.read(_CHUNK)
