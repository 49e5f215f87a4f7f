"""Uploads through the real application: what is taken in, what is refused, and what a refusal leaves behind."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import MPEG2MPML

from api.app import create_app
from db import migrate
from settings import Settings
from tests.access import show_key
from tests.dicoms import CHEST, NAME, encapsulated, written
from tests.dicoms import radiograph as dicom_radiograph
from tests.pictures import grey_image, saved
from tests.service import zipped
from tests.uploading import BOUNDARY, Api, Radiograph, multipart


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


@pytest.mark.parametrize("before", ["", 'filename="=?utf-8?B?6IO4LnBuZw==?="; '])
def test_a_name_as_older_libraries_send_it_is_the_same_name(api: Api, radiograph: Radiograph, before: str) -> None:
    """RFC 5987, which RFC 7578 took out of forms: alone, or beside a name for who does not know it."""
    told = f"Content-Disposition: form-data; name=images; {before}filename*=UTF-8''%E8%83%B8.png\r\n\r\n".encode()
    body = b"--" + BOUNDARY.encode() + b"\r\n" + told + radiograph(1) + b"\r\n" + multipart([])
    assert api.post(body).status_code == 202
    assert [image.custom_id for image in api.images()] == ["胸.png"]


@pytest.mark.parametrize("headers", [b"X-More: 1\r\n" * 9, b"X-Long: " + b"x" * 9_000 + b"\r\n"])
def test_a_part_with_too_much_before_it_is_called_so(api: Api, radiograph: Radiograph, headers: bytes) -> None:
    body = multipart([("1.png", radiograph(1))]).replace(b"Content-Disposition", headers + b"Content-Disposition")
    assert "headers" in api.refuses(api.post(body), 400, "malformed_body")["detail"]


def test_a_dicom_file_that_begins_like_a_zip_is_no_zip(api: Api, radiograph: Radiograph) -> None:
    dicom = b"PK\3\4".ljust(128, b"x") + written(dicom_radiograph())[128:]
    assert api.submit({"1.dcm": dicom, "2.png": radiograph(2)}).status_code == 202
    assert [image.code for image in api.images()] == [None, None]


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
    (kept,) = api.blobs()
    assert kept.read_bytes().startswith(bytes(128) + b"DICM")


def test_what_a_header_shows_is_answered_in_the_202(api: Api, radiograph: Radiograph) -> None:
    files = {
        "good.png": radiograph(1),
        "notes.txt": b"notes",
        "half.png": radiograph(2)[:-30],
        "half.jpg": saved(grey_image(), "JPEG")[:-2],
        "ct.dcm": written(dicom_radiograph(Modality="CT")),
        "huge.dcm": written(dicom_radiograph(Rows=65535, Columns=65535, NumberOfFrames="61", PixelData=bytes(8))),
        "film.dcm": written(dicom_radiograph(np.vstack([CHEST, CHEST]), Rows=256, NumberOfFrames="2")),
        "movie.dcm": written(encapsulated(MPEG2MPML, bytes(100))),
    }
    answer = api.submit(files)
    assert answer.status_code == 202
    assert answer.get_json()["rejected"] == [
        {"custom_id": "notes.txt", "code": "unsupported_type"},
        {"custom_id": "half.png", "code": "truncated"},
        {"custom_id": "half.jpg", "code": "truncated"},
        {"custom_id": "ct.dcm", "code": "wrong_modality"},
        {"custom_id": "huge.dcm", "code": "too_large"},
        {"custom_id": "film.dcm", "code": "multi_frame"},
        {"custom_id": "movie.dcm", "code": "unsupported_transfer_syntax"},
    ]
    refused = {image.custom_id: (image.sha256, image.bytes) for image in api.images() if image.code}
    assert refused == {
        name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items() if name != "good.png"
    }
    assert [path.read_bytes() for path in api.blobs()] == [radiograph(1)]
    api.nothing_unfinished()


def test_a_batch_of_images_that_were_all_rejected_is_completed_at_once(api: Api, radiograph: Radiograph) -> None:
    answer = api.submit({"half.png": radiograph(2)[:-30]})
    assert (answer.status_code, answer.get_json()["outcome"]) == (202, "none_classified")
    assert answer.get_json()["rejected"] == [{"custom_id": "half.png", "code": "truncated"}]


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


@pytest.mark.parametrize("content_type", ["text/plain", "image/png", "multipart/mixed; boundary=x", ""])
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


def test_without_a_model_nothing_is_taken_in(settings: Settings, radiograph: Radiograph) -> None:
    app = create_app(settings)
    migrate.upgrade(app.extensions["cxr"].database)
    answer = show_key(app.test_client()).post(
        "/v1/batches", data=zipped({"a.png": radiograph(1)}), content_type="application/zip"
    )
    assert (answer.status_code, answer.get_json(force=True)["code"]) == (503, "no_model")
    app.extensions["cxr"].database.close()


def test_no_answer_and_no_row_names_the_patient(api: Api, tmp_path: Path) -> None:
    answer = api.submit({"a.dcm": written(dicom_radiograph())})
    assert answer.status_code == 202
    assert NAME not in answer.get_data(as_text=True)
    assert not any(NAME.encode() in path.read_bytes() for path in tmp_path.glob("cxr.db*"))
