"""Submitting the same again, stopping, running again and purging, over HTTP."""

import threading
from collections.abc import Iterator

from sqlalchemy import func, select
from werkzeug.test import TestResponse

from db import idempotency, tenancy
from db.tables import Batch
from tests.uploading import Api, Radiograph, multipart


def send(api: Api, files: dict[str, bytes], key: str, query: str = "") -> TestResponse:
    content_type = "multipart/form-data; boundary=b0undary"
    body = multipart(list(files.items()))
    return api.client.post(
        f"/v1/batches{query}", data=body, content_type=content_type, headers={"Idempotency-Key": key}
    )


def batches(api: Api) -> int:
    with api.parts.database.read() as session:
        return session.scalars(select(func.count()).select_from(Batch)).one()


def test_the_same_key_gives_the_same_batch(api: Api, radiograph: Radiograph) -> None:
    first, second = (send(api, {"a.png": radiograph(1)}, "k1") for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json
    assert second.json
    assert first.json["id"] == second.json["id"]
    assert first.headers["Location"] == second.headers["Location"]
    assert batches(api) == 1
    assert len(api.blobs()) == 1


def test_the_same_key_for_something_else_is_refused(api: Api, radiograph: Radiograph) -> None:
    send(api, {"a.png": radiograph(1)}, "k1")
    others = [
        send(api, {"a.png": radiograph(2)}, "k1"),
        send(api, {"b.png": radiograph(1)}, "k1"),
        send(api, {"a.png": radiograph(1)}, "k1", "?lane=urgent"),
    ]
    assert [(answer.status_code, answer.json["code"]) for answer in others if answer.json] == [
        (422, "idempotency_key_reused")
    ] * 3
    assert batches(api) == 1


def test_a_key_that_is_in_flight_is_refused(api: Api, radiograph: Radiograph) -> None:
    reading, go_on = threading.Event(), threading.Event()
    whole = multipart([("a.png", radiograph(1))])

    def slowly() -> Iterator[bytes]:
        reading.set()
        go_on.wait(30)
        yield whole

    answers: list[TestResponse] = []
    first = threading.Thread(target=lambda: answers.append(api.post(slowly(), HTTP_IDEMPOTENCY_KEY="k1")))
    first.start()
    reading.wait(30)
    second = send(api, {"a.png": radiograph(1)}, "k1")
    go_on.set()
    first.join()
    assert second.json
    assert (second.status_code, second.json["code"]) == (409, "idempotency_key_in_flight")
    assert answers[0].status_code == 202
    assert batches(api) == 1


def test_two_servers_with_one_key_make_one_batch(api: Api, radiograph: Radiograph) -> None:
    """The other server's batch comes in after ours looked for the key."""
    answer = send(api, {"b.png": radiograph(2)}, "other")
    assert answer.json
    with api.parts.system.of(tenancy.DEFAULT).write() as session:
        named = {"tenant": tenancy.DEFAULT, "batch_id": answer.json["id"]}
        idempotency.reserve(session, "k1", "another fingerprint", **named)
    late = send(api, {"a.png": radiograph(1)}, "k1")
    assert late.status_code == 422
    assert batches(api) == 1


def test_a_key_that_is_none_is_refused(api: Api, radiograph: Radiograph) -> None:
    for key in ("", "x" * 256, "ä", "a b"):
        answer = send(api, {"a.png": radiograph(1)}, key)
        assert answer.json
        assert (answer.status_code, answer.json["code"]) == (400, "idempotency_key_invalid")


def test_cancel_retry_and_purge_over_http(api: Api, radiograph: Radiograph) -> None:
    answer = api.submit({"a.png": radiograph(1), "b.png": radiograph(2)})
    assert answer.json
    address = f"/v1/batches/{answer.json['id']}"

    def code(answer: TestResponse) -> tuple[int, str]:
        told = answer.json or {}
        return answer.status_code, told.get("code") or told["state"]

    assert code(api.client.delete(address)) == (409, "batch_open")
    assert code(api.client.post(f"{address}/retry")) == (409, "batch_open")
    assert code(api.client.post(f"{address}/cancel")) == (202, "cancelled")
    assert code(api.client.post(f"{address}/cancel")) == (409, "batch_closed")
    assert code(api.client.post(f"{address}/retry")) == (202, "processing")
    assert code(api.client.post(f"{address}/cancel")) == (202, "cancelled")
    assert code(api.client.delete(address)) == (202, "cancelled")
    assert api.blobs() == []
    assert code(api.client.post(f"{address}/retry")) == (410, "batch_purged")
    assert code(api.client.post("/v1/batches/batch_0/cancel")) == (404, "batch_unknown")
    assert api.client.get(f"{address}/results.json").status_code == 200
