"""Zip archives: every entry is read through a count of its real bytes, and names never become paths."""

import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from api.problems import Problem
from settings import Settings

_CHUNK = 256 * 1024
_HIGHEST_RATIO = 200  # radiographs compress to a half; a bomb, to a thousandth
_RATIO_COUNTS_FROM = 1 << 20
_ENCRYPTED = 0x1


def entries(path: Path, settings: Settings) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield (name, data) of every file in the archive, each to be read before the next. Raises Problem."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check(files, settings)
            for entry in files:
                yield entry.filename, _read(archive, entry, settings)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk, not the archive
        raise Problem(422, "zip_damaged", "The zip cannot be read; make it again and send it again.") from error


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


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, settings: Settings) -> Iterator[bytes]:
    size, most = 0, max(_RATIO_COUNTS_FROM, entry.compress_size * _HIGHEST_RATIO)
    with archive.open(entry) as data:
        while chunk := data.read(_CHUNK):
            size += len(chunk)
            if size > min(most, settings.max_batch_bytes):
                raise Problem(413, "zip_bomb", "The zip holds a file that grows beyond measure.")
            yield chunk
