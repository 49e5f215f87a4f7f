"""Drafts: opened, filled image by image, submitted; over HTTP."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from db.drafts import Room
from settings import Settings
from tests.service import CARD
from tests.test_ending import actions
from tests.uploading import Api, Radiograph, Stream

ROOM = Room(images=3, bytes=1_000)


def opened(api: Api, **asked: object) -> str:
    answer = api.client.post("/v1/batches", json=asked)
    told: Any = answer.json
    assert (answer.status_code, told["state"], told["total"], told["model_version"]) == (201, "receiving", 0, None)
    return answer.headers["Location"]


def put(api: Api, address: str, name: str, data: bytes, **headers: str) -> TestResponse:
    return api.client.put(
        f"{address}/images/{name}", data=data, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def code(answer: TestResponse) -> tuple[int, str]:
    told: Any = answer.get_json(force=True)
    return answer.status_code, told.get("code") or told["state"]


def test_a_draft_is_filled_and_submitted(api: Api, radiograph: Radiograph) -> None:
    address = opened(api, lane="urgent", synthetic=True, total=2)
    assert code(put(api, address, "ward-3/1.png", radiograph(1))) == (201, "received")
    told: Any = api.client.get(address).json
    assert (told["lane"], told["synthetic"], told["total"], told["announced"]) == ("urgent", True, 1, 2)
    assert told["counts"]["received"] == sum(told["counts"].values()) == 1
    assert (told["queue_position"], told["eta_seconds"]) == (None, None)
    assert code(api.client.post(f"{address}/submit")) == (409, "total_differs")
    assert code(put(api, address, "2.png", radiograph(2))) == (201, "received")
    answer = api.client.post(f"{address}/submit")
    told = answer.json
    assert (answer.status_code, told["state"], told["model_version"]) == (202, "processing", CARD.version)
    assert (told["counts"]["queued"], told["total"]) == (2, 2)
    assert answer.headers["Retry-After"]
    assert {image.state for image in api.images()} == {"queued"}
    assert len(api.blobs()) == 2


def test_the_same_bytes_again_are_200_and_others_409(api: Api, radiograph: Radiograph) -> None:
    address = opened(api)
    statuses = [put(api, address, "1.png", radiograph(1)).status_code for _ in range(2)]
    assert statuses == [201, 200]
    assert code(put(api, address, "1.png", radiograph(2))) == (409, "other_bytes")
    assert len(api.images()) == 1
    assert api.client.post(f"{address}/submit").status_code == 202
    assert code(put(api, address, "1.png", radiograph(1))) == (409, "draft_closed")
    assert code(put(api, address, "2.png", radiograph(2))) == (409, "draft_closed")
    assert code(api.client.post(f"{address}/submit")) == (409, "draft_closed")
    api.nothing_unfinished()


def test_an_image_that_is_there_already_costs_nothing_of_the_day(settings: Settings, radiograph: Radiograph) -> None:
    api = Api(replace(settings, images_per_day=2))
    address = opened(api)
    statuses = [put(api, address, "1.png", radiograph(1)).status_code for _ in range(4)]
    assert statuses == [201, 200, 200, 200]
    assert code(put(api, address, "1.png", radiograph(9))) == (409, "other_bytes")
    assert code(put(api, address, "2.png", radiograph(2))) == (201, "received")
    assert code(put(api, address, "2.png", radiograph(2))) == (200, "received"), "also when the day is used up"
    assert code(put(api, address, "3.png", radiograph(3))) == (429, "quota_used")
    assert len(api.blobs()) == 2
    api.parts.system.close()


def test_what_a_full_draft_does_not_take_costs_nothing_of_the_day(settings: Settings, radiograph: Radiograph) -> None:
    api = Api(replace(settings, images_per_day=2, max_images=1))
    full = opened(api)
    assert put(api, full, "1.png", radiograph(1)).status_code == 201
    for number in range(2, 5):
        assert code(put(api, full, f"{number}.png", radiograph(number))) == (413, "draft_full")
    assert put(api, opened(api), "2.png", radiograph(2)).status_code == 201
    api.parts.system.close()


def test_a_body_for_a_draft_that_is_not_there_is_not_read(api: Api) -> None:
    def unread() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    environ = {"wsgi.input": Stream(unread()), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    for batch_id in ("batch_0", "a%00b"):
        answer = api.client.put(f"/v1/batches/{batch_id}/images/1.png", environ_overrides=environ)
        assert code(answer) == (404, "batch_unknown")


def test_what_the_door_rejects_is_answered_and_counted(api: Api, radiograph: Radiograph) -> None:
    address = opened(api)
    answer = put(api, address, "notes.txt", b"notes")
    told: Any = answer.json
    assert (answer.status_code, told["state"], told["code"]) == (201, "rejected", "unsupported_type")
    assert put(api, address, "half.png", radiograph(1)[:-30]).json["code"] == "truncated"  # type: ignore[index]
    assert put(api, address, "notes.txt", b"notes").status_code == 200
    put(api, address, "good.png", radiograph(2))
    told = api.client.post(f"{address}/submit").json
    assert {one["custom_id"]: one["code"] for one in told["rejected"]} == {
        "notes.txt": "unsupported_type",
        "half.png": "truncated",
    }
    assert (told["counts"]["rejected"], told["counts"]["queued"], told["total"]) == (2, 1, 3)
    entries = actions(api.parts.database, told["id"])
    assert entries == ["batch.opened", "image.rejected", "image.rejected", "batch.submitted"]


@pytest.mark.parametrize(
    ("header", "status", "expected"),
    [
        ("sha-256=:{sha256}:", 201, "received"),
        ("sha-512=:{sha512}:, sha-256=:{sha256}:", 201, "received"),
        ("md5=:AAAA:, sha-256=:{sha256}:", 201, "received"),
        ("sha-256=:{other}:", 400, "digest_mismatch"),
        ("sha-256=:{sha256}:, sha-512=:{sha512x}:", 400, "digest_mismatch"),
        ("sha-256={sha256}", 400, "digest_invalid"),
        ("sha-256=:AAAA:", 400, "digest_invalid"),
    ],
)
def test_content_digest_is_checked(api: Api, radiograph: Radiograph, header: str, status: int, expected: str) -> None:
    def coded(name: str, data: bytes) -> str:
        return base64.b64encode(hashlib.new(name, data).digest()).decode()

    body = radiograph(1)
    filled = header.format(
        sha256=coded("sha256", body),
        sha512=coded("sha512", body),
        other=coded("sha256", b""),
        sha512x=coded("sha512", b""),
    )
    address = opened(api)
    assert code(put(api, address, "1.png", body, Content_Digest=filled)) == (status, expected)
    assert len(api.images()) == len(api.blobs()) == (status == 201)
    api.nothing_unfinished()


def test_the_digest_is_over_all_that_was_sent_also_of_what_is_rejected(api: Api, radiograph: Radiograph) -> None:
    body = radiograph(1) + b"behind the image"
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    assert put(api, opened(api), "1.png", body, Content_Digest=f"sha-256=:{digest}:").status_code == 201
    digest = base64.b64encode(hashlib.sha256(b"notes").digest()).decode()
    rejected = put(api, opened(api), "notes.txt", b"notes", Content_Digest=f"sha-256=:{digest}:")
    assert (rejected.status_code, code(rejected)[1]) == (201, "unsupported_type")


def test_an_empty_draft_is_not_submitted_but_can_be_cancelled(api: Api) -> None:
    address = opened(api)
    assert code(api.client.post(f"{address}/submit")) == (422, "empty_batch")
    told: Any = api.client.post(f"{address}/cancel").json
    assert (told["state"], told["total"], told["progress"]) == ("cancelled", 0, 1.0)
    assert code(api.client.post(f"{address}/retry")) == (409, "never_submitted")
    assert api.client.get(address.replace("/v1", "")).status_code == 200, "its page"


def test_a_cancelled_draft_stays_cancelled_and_can_be_purged(api: Api, radiograph: Radiograph) -> None:
    address = opened(api)
    put(api, address, "1.png", radiograph(1))
    assert code(api.client.delete(address)) == (409, "batch_open")
    assert code(api.client.post(f"{address}/cancel")) == (202, "cancelled")
    assert code(api.client.post(f"{address}/retry")) == (409, "never_submitted")
    assert code(put(api, address, "2.png", radiograph(2))) == (409, "draft_closed")
    assert code(api.client.delete(address)) == (202, "cancelled")
    assert api.blobs() == []


def test_a_draft_keeps_to_the_limits(narrow: Api, radiograph: Radiograph) -> None:
    address = opened(narrow)
    for number in range(10):
        assert put(narrow, address, f"{number}.txt", b"x").status_code == 201
    assert code(put(narrow, address, "11.txt", b"x")) == (413, "draft_full")
    address = opened(narrow)
    large = put(narrow, address, "large.png", radiograph(1) + bytes(60_000))
    assert large.json["code"] == "too_large"  # type: ignore[index]
    assert code(put(narrow, address, "huge.png", radiograph(1) + bytes(320_000))) == (413, "too_large")
    sizes = [put(narrow, address, f"{number}.png", radiograph(number)).status_code for number in range(4)]
    assert sizes == [201, 201, 201, 413]
    assert code(put(narrow, address, "x" * 1025, b"x")) == (422, "custom_id_invalid")
    narrow.nothing_unfinished()


def test_a_draft_hears_of_a_full_disk(settings: Settings, radiograph: Radiograph) -> None:
    api = Api(replace(settings, min_free_bytes=1 << 60))
    assert code(put(api, opened(api), "1.png", radiograph(1))) == (507, "disk_full")
    api.parts.database.close()


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"nonsense", b'{"lane": "fast"}', b'{"total": 0}', b'{"lanes": "urgent"}', b'{"total": 1e30}']
)
def test_json_that_opens_no_draft_is_refused(api: Api, body: bytes) -> None:
    assert code(api.post(body, "application/json")) == (422, "invalid_request")
    assert code(put(api, "/v1/batches/batch_0", "1.png", b"x")) == (404, "batch_unknown")


def test_a_label_in_the_address_is_not_in_the_log_of_a_failure(
    api: Api, radiograph: Radiograph, caplog: pytest.LogCaptureFixture
) -> None:
    address = opened(api)
    incoming = api.parts.blobs.root / "incoming"
    incoming.rmdir()
    incoming.touch()  # where a directory is needed
    assert code(put(api, address, "Mustermann/1.png", radiograph(1))) == (500, "internal_error")
    assert "PUT /v1/batches/<batch_id>/images/<path:custom_id> failed" in caplog.text
    assert "Mustermann" not in caplog.text
