"""Uploads through the real application: what is taken in, what is refused, and what a refusal leaves behind."""

import hashlib
import io
import stat
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from api import archives
from api.app import create_app
from api.problems import Problem
from api.wiring import Parts
from db import migrate, registry
from db.tables import Batch, Image
from settings import Settings
from tests.conftest import CARD
from tests.service import zipped
from tests.test_dicom import NAME, written
from tests.test_dicom import radiograph as dicom_radiograph

Radiograph = Callable[[int], bytes]
BOUNDARY = "b0undary"


class Api:
    """The application over an empty SQLite database with a champion that nobody loads."""

    def __init__(self, settings: Settings) -> None:
        app = create_app(settings)
        self.client: FlaskClient = app.test_client()
        self.parts: Parts = app.extensions["cxr"]
        migrate.upgrade(self.parts.database)
        with self.parts.database.write() as session:
            registry.register(session, self.parts.blobs, CARD, b"weights", actor="test")
            registry.appoint(session, registry.CHAMPION, CARD.version, actor="test")

    def post(
        self, body: Any, content_type: str = f"multipart/form-data; boundary={BOUNDARY}", **more: Any
    ) -> TestResponse:
        if isinstance(body, Iterator):
            chunked = {"wsgi.input": Stream(body), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
            more = {"environ_overrides": chunked | {"CONTENT_TYPE": content_type} | more}
        else:
            more |= {"data": body}
        return self.client.post("/v1/batches", content_type=content_type, **more)

    def submit(self, files: Mapping[str, bytes]) -> TestResponse:
        return self.post(multipart(list(files.items())))

    def images(self) -> list[Image]:
        with self.parts.database.read() as session:
            return list(session.scalars(select(Image).order_by(Image.id)))

    def blobs(self) -> list[Path]:
        """What is kept besides the champion's weights; every blob hashes to its name."""
        weights = hashlib.sha256(b"weights").hexdigest()
        found = [path for path in self.parts.blobs.root.rglob("*") if path.is_file() and path.name != weights]
        for path in found:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        return found

    def refuses(self, answer: TestResponse, status: int, code: str) -> Any:
        """Assert the problem, and that it left nothing behind in the database or among the unfinished uploads."""
        problem = answer.get_json(force=True)
        assert (answer.status_code, problem["code"]) == (status, code), problem
        assert answer.content_type == "application/problem+json"
        with self.parts.database.read() as session:
            assert session.scalar(select(func.count()).select_from(Batch)) == 0
            assert session.scalar(select(func.count()).select_from(Image)) == 0
        self.nothing_unfinished()
        return problem

    def nothing_unfinished(self) -> None:
        assert list((self.parts.blobs.root / "incoming").glob("*")) == []
        self.blobs()


class Stream(io.RawIOBase):
    """A body that arrives bit by bit and is nowhere whole."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._left = self._left or next(self._chunks, b"")
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def multipart(files: list[tuple[str, bytes]]) -> bytes:
    return b"".join([*(part(name) + data + b"\r\n" for name, data in files), f"--{BOUNDARY}--\r\n".encode()])


def part(name: str) -> bytes:
    quoted = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{quoted}"\r\n\r\n'.encode()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"CXR_HOME": str(tmp_path), "REDIS_URL": "memory://"})  # tickets nobody takes


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    api = Api(settings)
    yield api
    api.parts.database.close()


@pytest.fixture
def narrow(settings: Settings) -> Iterator[Api]:
    """With limits that a test can reach: 10 images, 100 kB each, 300 kB together."""
    api = Api(replace(settings, max_images=10, max_image_bytes=100_000, max_batch_bytes=300_000))
    yield api
    api.parts.database.close()


def test_many_files_are_one_batch_in_their_order(api: Api, radiograph: Radiograph) -> None:
    files = {f"{number}.png": radiograph(number) for number in range(30)}
    answer = api.submit(files)
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/batches/{answer.get_json()['id']}"
    stored = [(image.custom_id, image.sha256, image.bytes) for image in api.images()]
    assert stored == [(name, hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()]
    assert {path.name for path in api.blobs()} == {sha256 for _, sha256, _ in stored}
    api.nothing_unfinished()


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_zip_is_a_batch_also_as_a_part(api: Api, radiograph: Radiograph, wrapped: bool) -> None:
    files = {"a/b.png": radiograph(1), "röntgen/胸部.png": radiograph(2)}
    archive = zipped(files | {"empty/": b""})
    answer = api.submit({"all.zip": archive}) if wrapped else api.post(archive, "application/zip")
    assert answer.status_code == 202
    assert [image.custom_id for image in api.images()] == list(files)
    assert {path.read_bytes() for path in api.blobs()} == set(files.values())
    api.nothing_unfinished()


@pytest.mark.parametrize(
    "name",
    [
        "a/b.png",
        "../x.png",
        "/etc/passwd",
        "胸部 X 線.png",
        'say "ah".png',
        "=1+1",
        "a\nb",
        "<b>.png",
        "x" * 1024,
        "100%",
    ],
)
def test_a_name_is_kept_exactly_as_sent(api: Api, radiograph: Radiograph, name: str) -> None:
    assert api.submit({name: radiograph(1)}).status_code == 202
    assert [image.custom_id for image in api.images()] == [name]
    assert [path.parent.parent for path in api.blobs()] == [api.parts.blobs.root]


@pytest.mark.parametrize("name", ["", "x" * 1025, "a\0b"])
def test_a_name_that_cannot_be_kept_is_refused(api: Api, radiograph: Radiograph, name: str) -> None:
    api.refuses(api.post(multipart([("good.png", radiograph(1)), (name, radiograph(2))])), 422, "custom_id_invalid")


def test_the_same_name_twice_is_refused(api: Api, radiograph: Radiograph) -> None:
    answer = api.post(multipart([("a.png", radiograph(1)), ("a.png", radiograph(2))]))
    assert api.refuses(answer, 422, "custom_id_twice")["custom_id"] == "a.png"


def test_the_same_bytes_twice_are_one_blob_and_two_images(api: Api, radiograph: Radiograph) -> None:
    assert api.submit({"a.png": radiograph(1), "b.png": radiograph(1)}).status_code == 202
    assert (len(api.images()), len(api.blobs())) == (2, 1)


def test_unreadable_files_among_good_ones_are_rejected_alone_and_counted(api: Api, radiograph: Radiograph) -> None:
    nested = zipped({"inner.png": radiograph(9)})
    files = {"good.png": radiograph(1), "notes.txt": b"notes", "empty.png": b"", "also.png": radiograph(2)}
    answer = api.post(zipped(files | {"nested.zip": nested}), "application/zip")
    assert answer.status_code == 202
    batch = answer.get_json()
    assert (batch["total"], batch["counts"]["queued"], batch["counts"]["rejected"]) == (5, 2, 3)
    codes = {image.custom_id: image.code for image in api.images() if image.code}
    assert codes == {"notes.txt": "unsupported_type", "empty.png": "truncated", "nested.zip": "unsupported_type"}
    assert len(api.blobs()) == 2


def test_a_program_in_the_preamble_of_dicom_is_wiped(api: Api) -> None:
    clean = written(dicom_radiograph())
    assert api.submit({"a.dcm": b"MZ" + b"\xcc" * 126 + clean[128:]}).status_code == 202
    assert [path.read_bytes() for path in api.blobs()] == [clean]


def test_no_files_are_an_empty_batch(api: Api) -> None:
    api.refuses(api.post(b""), 422, "empty_batch")
    api.refuses(api.post(multipart([])), 422, "empty_batch")
    api.refuses(api.post(zipped({}), "application/zip"), 422, "empty_batch")


def test_no_image_among_the_files_is_refused_with_the_reason_for_each(api: Api) -> None:
    problem = api.refuses(api.submit({"a.txt": b"a", "b.png": b""}), 422, "no_images")
    assert problem["images"] == [
        {"custom_id": "a.txt", "code": "unsupported_type"},
        {"custom_id": "b.png", "code": "truncated"},
    ]


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "image/png", "multipart/mixed; boundary=x", ""]
)
def test_other_content_types_are_refused(api: Api, content_type: str) -> None:
    api.refuses(api.post(b"{}", content_type), 415, "unsupported_media_type")


def test_a_body_without_boundary_is_malformed(api: Api) -> None:
    api.refuses(api.post(multipart([]), "multipart/form-data"), 400, "malformed_body")


@pytest.mark.parametrize("body", [b"nonsense", b"--other\r\n\r\n", b"--" + BOUNDARY.encode() + b"\r\nnonsense\r\n\r\n"])
def test_a_body_that_is_no_multipart_is_malformed(api: Api, body: bytes) -> None:
    api.refuses(api.post(body), 400, "malformed_body")


def test_a_part_without_a_file_name_is_malformed(api: Api, radiograph: Radiograph) -> None:
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="lane"\r\n\r\nurgent\r\n'.encode()
    api.refuses(api.post(field + multipart([("a.png", radiograph(1))])), 400, "malformed_body")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
def test_a_body_cut_off_stores_nothing(api: Api, radiograph: Radiograph, kept: float) -> None:
    whole = multipart([(f"{number}.png", radiograph(number)) for number in range(3)])
    api.refuses(api.post(whole[: int(len(whole) * kept)]), 400, "malformed_body")
    api.refuses(api.post(iter([whole[: int(len(whole) * kept)]])), 400, "malformed_body")


def test_a_client_that_hangs_up_stores_nothing(api: Api, radiograph: Radiograph) -> None:
    whole = multipart([(f"{number}.png", radiograph(number)) for number in range(3)])
    answer = api.post(iter([whole[:-50]]), HTTP_TRANSFER_ENCODING="", CONTENT_LENGTH=str(len(whole)))
    api.refuses(answer, 400, "malformed_body")


def test_a_body_too_large_by_its_length_is_not_read(narrow: Api) -> None:
    def unread() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = narrow.post(unread(), HTTP_TRANSFER_ENCODING="", CONTENT_LENGTH="300001")
    narrow.refuses(answer, 413, "too_large")


def test_a_body_too_large_on_the_way_is_not_read_to_its_end(narrow: Api, radiograph: Radiograph) -> None:
    def endless() -> Iterator[bytes]:
        yield part("good.png") + radiograph(1) + b"\r\n" + part("endless.png") + radiograph(2)
        while True:
            yield bytes(10_000)

    narrow.refuses(narrow.post(endless()), 413, "too_large")


@pytest.mark.parametrize("begins", [b"", multipart([])])
def test_what_is_no_file_counts_as_well(narrow: Api, begins: bytes) -> None:
    def endless() -> Iterator[bytes]:
        yield begins or b"nothing"
        while True:
            yield bytes(10_000)

    narrow.refuses(narrow.post(endless()), 413, "too_large")


def test_too_many_images_are_refused(narrow: Api) -> None:
    files = {f"{number}.png": b"not an image" for number in range(11)}
    narrow.refuses(narrow.submit(files), 413, "too_many_images")
    narrow.refuses(narrow.post(zipped(files), "application/zip"), 413, "too_many_images")


@pytest.mark.parametrize("in_zip", [False, True])
def test_one_image_that_is_too_large_is_rejected_alone(narrow: Api, radiograph: Radiograph, in_zip: bool) -> None:
    large = radiograph(1) + bytes(120_000)
    files = {"large.png": large, "good.png": radiograph(2)}
    answer = narrow.post(zipped(files), "application/zip") if in_zip else narrow.submit(files)
    assert answer.status_code == 202
    rejected = narrow.images()[0]
    assert (rejected.code, rejected.bytes, rejected.sha256) == (
        "too_large",
        len(large),
        hashlib.sha256(large).hexdigest(),
    )
    assert [path.read_bytes() for path in narrow.blobs()] == [radiograph(2)]
    narrow.nothing_unfinished()


def test_what_comes_out_of_a_zip_is_limited_like_what_comes_in(narrow: Api, radiograph: Radiograph) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"{number}.png", radiograph(number) + bytes(90_000))
    narrow.refuses(narrow.post(buffer.getvalue(), "application/zip"), 413, "too_large")


def test_a_full_disk_is_told_before_the_body_is_read(settings: Settings, radiograph: Radiograph) -> None:
    api = Api(replace(settings, min_free_bytes=1 << 60))
    answer = api.submit({"a.png": radiograph(1)})
    assert api.refuses(answer, 507, "disk_full")["retryable"]
    assert answer.headers["Retry-After"]
    api.parts.database.close()


def test_without_a_model_nothing_is_taken_in(settings: Settings, radiograph: Radiograph) -> None:
    app = create_app(settings)
    migrate.upgrade(app.extensions["cxr"].database)
    answer = app.test_client().post(
        "/v1/batches", data=zipped({"a.png": radiograph(1)}), content_type="application/zip"
    )
    assert (answer.status_code, answer.get_json(force=True)["code"]) == (503, "no_model")
    app.extensions["cxr"].database.close()


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


def test_a_zip_bomb_is_refused(api: Api) -> None:
    bomb = _entry("bomb.png", bytes(20_000_000), compress_type=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 30_000
    api.refuses(api.post(bomb, "application/zip"), 413, "zip_bomb")


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


def test_a_large_upload_is_never_held_whole(api: Api, radiograph: Radiograph) -> None:
    chunk = bytes(1 << 20)

    def body() -> Iterator[bytes]:
        yield part("large.png") + radiograph(1)
        for _ in range(200):
            yield chunk
        yield b"\r\n" + multipart([("good.png", radiograph(2))])

    tracemalloc.start()
    answer = api.post(body())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.status_code == 202
    assert [image.code for image in api.images()] == ["too_large", None]
    assert api.images()[0].bytes == len(radiograph(1)) + (200 << 20)
    assert peak < 20_000_000
    api.nothing_unfinished()


def test_no_answer_and_no_row_names_the_patient(api: Api, tmp_path: Path) -> None:
    answer = api.submit({"a.dcm": written(dicom_radiograph())})
    assert answer.status_code == 202
    assert NAME not in answer.get_data(as_text=True)
    assert not any(NAME.encode() in path.read_bytes() for path in tmp_path.glob("cxr.db*"))


GOOD_ZIP = zipped({"a.png": b"some bytes of an image" * 9}) + _entry("b", b"b" * 99, compress_type=zipfile.ZIP_DEFLATED)


@examples(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, len(GOOD_ZIP) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_garbled_zip_is_read_or_refused_and_nothing_else(
    settings: Settings, tmp_path: Path, edits: list[tuple[int, int]]
) -> None:
    garbled = bytearray(GOOD_ZIP)
    for place, value in edits:
        garbled[place] = value
    path = tmp_path / "garbled.zip"
    path.write_bytes(garbled)
    with suppress(Problem):
        for _, data in archives.entries(path, settings):
            for _ in data:
                pass
