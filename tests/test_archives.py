"""Zip files: read entry by entry, or refused whole."""

import io
import stat
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import archives
from api.problems import Problem
from settings import Settings
from tests.examples import fuzzed
from tests.service import zipped
from tests.test_limits import deflated
from tests.uploading import Api, Radiograph


def _entry(name: str, data: bytes = b"x", **attributes: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(name)
        for attribute, value in attributes.items():
            setattr(entry, attribute, value)
        archive.writestr(entry, data)
    return buffer.getvalue()


def _encrypted(data: bytes) -> bytes:
    """The flag of encryption set in the archive's two headers."""
    changed = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        changed[data.index(signature) + offset] |= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("archive", "code"),
    [
        (_entry("../../etc/cron.d/x"), "zip_unsafe_name"),
        (_entry("a/../../x.png"), "zip_unsafe_name"),
        (_entry("..\\x.png"), "zip_unsafe_name"),
        (_entry("/etc/passwd"), "zip_unsafe_name"),
        (_entry(""), "custom_id_invalid"),
        (_entry("link", b"/etc/passwd", create_system=3, external_attr=(stat.S_IFLNK | 0o777) << 16), "zip_link"),
        (_encrypted(_entry("a.png")), "zip_encrypted"),
        (_entry("a.png", compress_type=zipfile.ZIP_LZMA), "zip_method"),
        (_entry("a.png", compress_type=zipfile.ZIP_BZIP2), "zip_method"),
        (_entry("a.png")[:-10], "zip_damaged"),
        (_entry("a.png", b"abc").replace(b"abc", b"abd"), "zip_damaged"),
        (b"not a zip", "zip_damaged"),
        (b"", "zip_damaged"),
    ],
)
def test_an_archive_that_is_not_to_be_trusted_is_refused_whole(
    api: Api, radiograph: Radiograph, archive: bytes, code: str
) -> None:
    api.refuses(api.post(archive, "application/zip"), 422, code)
    if archive.startswith(b"PK"):
        api.refuses(api.submit({"good.png": radiograph(1), "bad.zip": archive}), 422, code)


def test_a_zip_bomb_is_refused(api: Api, radiograph: Radiograph) -> None:
    """Alone, behind an image that is none, and as the end of one."""
    zeros, image = bytes(20_000_000), radiograph(1)
    for files in ({"1.png": zeros}, {"1.png": image, "2.png": zeros}, {"1.png": image + zeros}):
        bomb = deflated(files)
        assert len(bomb) < 100_000
        api.refuses(api.post(bomb, "application/zip"), 413, "zip_bomb")
        api.refuses(api.submit({"good.png": image, "bomb.zip": bomb}), 413, "zip_bomb")


def test_a_zip_with_a_directory_without_end_is_refused_before_it_is_read(api: Api) -> None:
    """47 bytes an entry, 500 and more in memory: a directory of gigabytes would end the server."""
    entry = _entry("")
    start = entry.index(b"PK\x01\x02")
    directory = entry[start : entry.index(b"PK\x05\x06")] * 400_000
    end = bytearray(entry[entry.index(b"PK\x05\x06") :])
    end[12:16] = len(directory).to_bytes(4, "little")
    tracemalloc.start()
    api.refuses(api.post(iter([entry[:start] + directory + end]), "application/zip"), 422, "zip_damaged")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(directory)  # the test's own bytes, and no more


GOOD_ZIP = zipped({"a.png": b"some bytes of an image" * 9}) + _entry("b", b"b" * 99, compress_type=zipfile.ZIP_DEFLATED)


@fuzzed(300)
@given(edits=st.lists(st.tuples(st.integers(0, len(GOOD_ZIP) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_garbled_zip_is_read_or_refused_and_nothing_else(
    settings: Settings, tmp_path: Path, edits: list[tuple[int, int]]
) -> None:
    garbled = bytearray(GOOD_ZIP)
    for place, value in edits:
        garbled[place] = value
    path = tmp_path / "garbled.zip"
    path.write_bytes(garbled)
    with suppress(Problem), path.open("rb") as file:
        for _, data in archives.entries(file.fileno(), settings):
            for _ in data:
                pass


def test_an_archive_has_no_name_on_the_disk_while_it_is_read(api: Api, radiograph: Radiograph) -> None:
    """It may name patients; a server that is killed in mid-upload leaves nothing of it."""
    archive = zipped({"a.png": radiograph(1)})
    seen: list[list[Path]] = []

    def body() -> Iterator[bytes]:
        for place in range(0, len(archive), 10_000):
            yield archive[place : place + 10_000]
            seen.append(list((api.parts.blobs.root / "incoming").glob("*")))

    assert api.post(body(), "application/zip").status_code == 202
    assert len(seen) > 2
    assert not any(seen)
