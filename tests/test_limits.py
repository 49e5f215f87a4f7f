"""The limits of an upload, each enforced while the bytes come in."""

import hashlib
import io
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit

from settings import Settings
from tests.dicoms import encapsulated, jpeg, written
from tests.dicoms import radiograph as dicom_radiograph
from tests.pictures import chest, saved
from tests.service import zipped
from tests.uploading import Api, Radiograph, Stream, multipart, part
from worker.radiograph import Grey


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
    large = radiograph(1) + bytes(60_000)
    files = {"large.png": large, "good.png": radiograph(2)}
    answer = narrow.post(deflated(files), "application/zip") if in_zip else narrow.submit(files)
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
    files = {f"{number}.png": radiograph(number) + bytes(90_000) for number in range(4)}
    narrow.refuses(narrow.post(deflated(files), "application/zip"), 413, "too_large")


def test_a_zip_counts_as_it_arrives_and_as_it_unpacks(narrow: Api, radiograph: Radiograph) -> None:
    files = {f"{number}.png": radiograph(number) for number in range(4)}
    assert 150_000 < sum(map(len, files.values())) < 290_000
    assert narrow.post(zipped(files), "application/zip").get_json()["code"] == "too_large"
    assert narrow.submit(files).status_code == 202


def deflated(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_full_disk_is_told_before_the_body_is_read(settings: Settings, radiograph: Radiograph) -> None:
    api = Api(replace(settings, min_free_bytes=1 << 60))
    answer = api.submit({"a.png": radiograph(1)})
    assert api.refuses(answer, 507, "disk_full")["retryable"]
    assert answer.headers["Retry-After"]
    api.parts.database.close()


def test_five_gibibytes_are_refused_at_the_limit_and_never_held(settings: Settings, radiograph: Radiograph) -> None:
    limit, chunk, sent = 64 << 20, bytes(1 << 20), 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield part("good.png") + radiograph(1) + b"\r\n" + part("endless.png") + radiograph(2)[:-12]
        for _ in range(5 << 10):
            sent += len(chunk)
            yield chunk

    api = Api(replace(settings, max_batch_bytes=limit))
    tracemalloc.start()
    api.refuses(api.post(body()), 413, "too_large")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sent <= limit + 2 * len(chunk)
    assert peak < 20_000_000
    api.parts.database.close()


@pytest.mark.parametrize(("max_images", "status"), [(5_000, 413), (20_000, 202)])
def test_ten_thousand_parts_do_not_exhaust_the_server(
    settings: Settings, radiograph: Radiograph, max_images: int, status: int
) -> None:
    def body() -> Iterator[bytes]:
        yield part("good.png") + radiograph(1) + b"\r\n"
        for number in range(10_000):
            yield part(f"{number}.txt") + b"no image\r\n"
        yield multipart([])

    api = Api(replace(settings, max_images=max_images))
    tracemalloc.start()
    assert api.post(body()).status_code == status
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (10_000_000 if status == 413 else 60_000_000)  # a row of SQL for each
    api.nothing_unfinished()
    api.parts.database.close()


def test_thousands_of_parts_are_refused_when_they_are_empty_or_no_files_either(settings: Settings) -> None:
    api = Api(replace(settings, max_images=1_000))
    empty = [part(f"{number}") + b"\r\n" for number in range(5_000)]
    fields = [one.replace(b"filename", b"id") for one in empty]
    api.refuses(api.post(iter([*empty, multipart([])])), 413, "too_many_images")
    api.refuses(api.post(iter([*fields, multipart([])])), 400, "malformed_body")
    api.parts.database.close()


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


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("path", "content_type", "most"),
    [
        ("/sign-in", FORM, 100_000),
        ("/sign-in", "multipart/form-data; boundary=b", 100_000),
        ("/sign-in", "application/json", 100_000),
        ("/sign-out", FORM, 100_000),
        ("/v1/keys", "application/json", 10_000_000),
        ("/v1/webhooks", FORM, 100_000),
        ("/v1/batches", "application/json", 10_000_000),
        ("/v1/retraining-runs", "text/plain", 10_000_000),
    ],
)
@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_that_is_no_file_is_refused_at_its_limit_and_never_held(
    api: Api, path: str, content_type: str, most: int, chunked: bool
) -> None:
    """The limit of a browser's forms is that of all who show no key."""
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b"key=1&csrf=1"
        while sent < 200_000_000:
            sent += 100_000
            yield b"&a" * 50_000

    if not path.startswith("/v1/"):
        del api.client.environ_base["HTTP_AUTHORIZATION"]
    api.client.set_cookie("cxr-web", "token")  # signs nobody in, and has the form's token looked for
    told = {"HTTP_TRANSFER_ENCODING": "chunked"} if chunked else {"CONTENT_LENGTH": "200000000"}
    environ = {"wsgi.input": Stream(endless()), "wsgi.input_terminated": True, "CONTENT_TYPE": content_type} | told
    tracemalloc.start()
    answer: Any = api.client.post(path, environ_overrides=environ)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (answer.status_code, answer.json["code"]) == (413, "too_large"), answer.text
    assert answer.content_type == "application/problem+json"
    assert f"at most {most} bytes" in answer.json["detail"]
    assert sent <= most + 100_000
    assert peak < 3 * most + 2_000_000


def test_a_draft_takes_an_image_larger_than_any_form(api: Api, radiograph: Radiograph) -> None:
    opened: Any = api.client.post("/v1/batches", json={})
    large = radiograph(1) + bytes(12_000_000)
    answer = api.client.put(f"/v1/batches/{opened.json['id']}/images/a.png", data=large)
    assert answer.status_code == 201, answer.text


@pytest.fixture
def strict(settings: Settings) -> Iterator[Api]:
    """With other limits than are meant."""
    bodies = replace(settings, max_json_bytes=5_000, max_form_bytes=1_000)
    api = Api(replace(bodies, max_pixels=10_000, max_zip_growth=2, decode_seconds=3, decode_bytes=1 << 29))
    yield api
    api.parts.database.close()


def test_what_is_set_is_what_is_told(strict: Api) -> None:
    told: Any = strict.client.get("/v1/limits").get_json()
    assert (told["bytes_per_json"], told["bytes_per_form"]) == (5_000, 1_000)
    assert (told["pixels_per_image"], told["growth_in_zip"]) == (10_000, 2)
    assert (told["seconds_to_decode"], told["bytes_to_decode"]) == (3, 1 << 29)


def test_the_door_counts_pixels_as_it_is_set(strict: Api) -> None:
    edges = {"large": 101, "small": 100}
    grey = {name: chest(edge) for name, edge in edges.items()}
    kinds: dict[str, Callable[[Grey], bytes]] = {
        "png": lambda it: saved(Image.fromarray(it)),
        "jpg": lambda it: saved(Image.fromarray(it), "JPEG"),
        "dcm": lambda it: written(dicom_radiograph(it)),
        "inside.dcm": lambda it: written(encapsulated(JPEGBaseline8Bit, jpeg(it), Rows=100, Columns=100)),
    }
    files = {f"{name}.{kind}": make(it) for name, it in grey.items() for kind, make in kinds.items()}
    assert strict.submit(files).status_code == 202
    codes = {image.custom_id: image.code for image in strict.images()}
    assert codes == {f"{name}.{kind}": "too_large" if name == "large" else None for name in grey for kind in kinds}


def test_a_zip_may_grow_as_it_is_set(strict: Api) -> None:
    strict.refuses(strict.post(deflated({"a.png": bytes(2_000_000)}), "application/zip"), 413, "zip_bomb")


def test_bodies_that_are_no_files_may_be_as_long_as_is_set(strict: Api) -> None:
    for path, size, status in (("/v1/batches", 5_000, 422), ("/v1/batches", 5_001, 413), ("/sign-in", 1_001, 413)):
        if path == "/sign-in":
            del strict.client.environ_base["HTTP_AUTHORIZATION"]
        answer = strict.client.post(path, data=b"x" * size, content_type="application/json")
        assert answer.status_code == status, (path, size)
        assert status != 413 or f"at most {size - 1} bytes" in answer.text
