"""`Idempotency-Key` on every POST: done once, answered again."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select, update

from db import idempotency, promotions, tenancy
from db.clock import now
from db.idempotency import IdempotencyKey
from db.tables import Batch
from tests.test_promotions import BY, champion_of, judged, registered
from tests.uploading import Api, Radiograph


def opened(api: Api, key: str, **asked: object) -> Any:
    return api.client.post("/v1/batches", json=asked, headers={"Idempotency-Key": key})


def rows(api: Api) -> int:
    with api.parts.database.read() as session:
        return session.scalars(select(func.count()).select_from(Batch)).one()


def unanswered(api: Api, *, ago: int) -> None:
    """As if the server had ended between what it did and its answer."""
    with api.parts.database.of(tenancy.DEFAULT).write() as session:
        session.execute(update(IdempotencyKey).values(status=None, body=None, location=None, at=now(-ago)))


def test_every_post_heeds_the_key(api: Api) -> None:
    addresses = [
        re.sub(r"<[^>]+>", "x", rule.rule)
        for rule in api.client.application.url_map.iter_rules()
        if "POST" in (rule.methods or ())
    ]
    assert len(addresses) > 3
    for address in addresses:
        answer = api.client.post(address, headers={"Idempotency-Key": ""})
        assert answer.get_json(force=True)["code"] == "idempotency_key_invalid", address


def test_the_answer_is_given_again_byte_by_byte(api: Api) -> None:
    first, second = (opened(api, "k1", lane="urgent") for _ in range(2))
    assert (first.data, first.status_code, first.headers["Location"]) == (
        second.data,
        second.status_code,
        second.headers["Location"],
    )
    assert ("Idempotent-Replayed" in first.headers, second.headers["Idempotent-Replayed"]) == (False, "true")
    assert rows(api) == 1
    assert opened(api, "k2", lane="urgent").json["id"] != first.json["id"]


def test_the_key_belongs_to_the_body_and_to_the_address(api: Api) -> None:
    address = opened(api, "k1").headers["Location"]
    others = [opened(api, "k1", lane="urgent"), api.client.post(f"{address}/cancel", headers={"Idempotency-Key": "k1"})]
    assert [(answer.status_code, answer.json["code"]) for answer in others] == [(422, "idempotency_key_reused")] * 2
    assert rows(api) == 1


def test_a_key_that_is_the_sha_256_of_another_is_a_key_of_its_own(api: Api) -> None:
    keys = "k1", hashlib.sha256(b"k1").hexdigest()
    first, second = (
        opened(api, key, lane=lane).json["id"] for key, lane in zip(keys, ("urgent", "routine"), strict=True)
    )
    assert first != second
    assert opened(api, "k1", lane="urgent").json["id"] == first


def test_a_cancellation_that_is_repeated_is_not_refused(api: Api, radiograph: Radiograph) -> None:
    told: Any = api.submit({"1.png": radiograph(1)}).json
    answers = [api.client.post(f"/v1/batches/{told['id']}/cancel", headers={"Idempotency-Key": "k1"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].data == answers[1].data


def test_what_was_refused_may_be_sent_again(api: Api, radiograph: Radiograph) -> None:
    address = opened(api, "k1").headers["Location"]
    keyed = {"Idempotency-Key": "k2"}
    assert api.client.post(f"{address}/submit", headers=keyed).status_code == 422
    api.client.put(f"{address}/images/1.png", data=radiograph(1))
    assert api.client.post(f"{address}/submit", headers=keyed).status_code == 202
    assert api.client.post(f"{address}/submit", headers=keyed).status_code == 202


def test_a_server_that_ended_before_its_answer_did_it_once_all_the_same(api: Api) -> None:
    opened(api, "k1")
    unanswered(api, ago=0)
    assert (opened(api, "k1").status_code, opened(api, "k1").json["code"]) == (409, "idempotency_key_in_flight")
    unanswered(api, ago=3600)
    assert (opened(api, "k1").status_code, opened(api, "k1").json["code"]) == (409, "answer_not_kept")
    assert rows(api) == 1


def test_a_submission_whose_answer_was_lost_is_answered_with_its_batch(api: Api, radiograph: Radiograph) -> None:
    from tests.test_submissions import send  # noqa: PLC0415

    files = {"1.png": radiograph(1), "notes.txt": b"notes"}
    first: Any = send(api, files, "k1")
    unanswered(api, ago=0)
    second: Any = send(api, files, "k1")
    assert (second.status_code, second.json["id"]) == (202, first.json["id"])
    assert second.json["rejected"] == first.json["rejected"] == [{"custom_id": "notes.txt", "code": "unsupported_type"}]
    assert rows(api) == 1


def twice(api: Api, address: str, body: object = None) -> Any:
    """What the second of two equal requests is answered, which says the same."""
    named = {"Idempotency-Key": f"for {address}".replace(" ", "-")}
    first, second = (api.client.post(address, json=body, headers=named) for _ in range(2))
    assert first.status_code in {200, 202}, first.text
    assert (second.status_code, second.data, second.headers["Idempotent-Replayed"]) == (
        first.status_code,
        first.data,
        "true",
    )
    other = api.client.post(address, json={"another": "body"}, headers=named)
    assert (other.status_code, other.get_json()["code"]) == (422, "idempotency_key_reused")
    return second.json


def test_what_all_hospitals_share_is_changed_once_too(api: Api) -> None:
    system, blobs = api.parts.system, api.parts.blobs
    champion = champion_of(system)
    registered(system, blobs, "a")
    for kind, asked in (
        ("retraining-runs", None),
        ("reclassifications", {"model": champion, "with": "a", "dry_run": False}),
    ):
        run = twice(api, f"/v1/{kind}", asked)
        assert twice(api, f"/v1/{kind}/{run['id']}/cancel")["state"] == "cancelled"
        assert twice(api, f"/v1/{kind}", asked)["id"] == run["id"], "not a second run"
    judged(system, "a")
    assert twice(api, "/v1/models/a/promote", BY)["version"] == "a"
    with system.write() as session:
        asked_for = promotions.pending(session)
        assert asked_for
        assert promotions.settle(session, asked_for.id, problem=None, worker="w1")
    assert twice(api, "/v1/models/a/rollback", BY)["version"] == champion


def test_another_server_that_is_faster_wins(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other server's key comes in after ours looked for it."""
    with api.parts.database.of(tenancy.DEFAULT).write() as session:
        idempotency.reserve(session, "k1", "another's", tenant=tenancy.DEFAULT)
    monkeypatch.setattr(idempotency, "earlier", lambda *_: None)
    answer = opened(api, "k1")
    assert (answer.status_code, answer.json["code"]) == (409, "idempotency_key_in_flight")
    assert rows(api) == 0


def test_a_body_that_is_no_file_is_not_read_without_end(api: Api) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 20)

    answer = api.post(endless(), "application/json", HTTP_IDEMPOTENCY_KEY="k1")
    assert (answer.status_code, answer.get_json()["code"]) == (413, "too_large")


def test_a_key_is_forgotten_after_thirty_days(api: Api) -> None:
    first = opened(api, "k1").json["id"]
    for days, same in ((29, True), (31, False)):
        with api.parts.system.write() as session:
            session.execute(update(IdempotencyKey).values(at=now(-days * 24 * 3600)))
            idempotency.forget(session)
        assert (opened(api, "k1").json["id"] == first) is same
