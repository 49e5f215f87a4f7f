"""Webhooks: what is told, to whom, and how it is signed."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from sqlalchemy import func, select, update
from standardwebhooks import Webhook as Verifier

from db import batches, ending, proof, tenancy, webhooks
from db.chains import AuditRow
from db.clock import now
from db.database import Database
from db.idempotency import IdempotencyKey
from db.tables import Batch
from db.webhooks import Delivery, DeliveryState, Due, Event
from settings import Settings
from tests import receiver
from tests.project import ROOT
from tests.queueing import submit
from tests.receiver import Receiver
from tests.service import Service, until
from tests.uploading import Api, Radiograph
from worker import delivery
from worker.couriers import Couriers

LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver.running(tmp_path_factory.mktemp("receiver")) as one:
        yield one


@pytest.fixture
def inside(settings: Settings) -> Iterator[Api]:
    """An operator who allows loopback."""
    api = Api(replace(settings, webhook_networks="127.0.0.0/8"))
    yield api
    api.parts.database.close()


def registered(database: Database, url: str, *events: Event) -> str:
    with database.of(tenancy.DEFAULT).write() as session:
        return webhooks.register(session, url, events or list(Event), actor="test").id


def cancelled(database: Database) -> str:
    """A batch that ended."""
    batch_id = submit(database, 2)
    with database.write() as session:
        batch = batches.find(session, batch_id)
        assert batch
        ending.cancel(session, batch, actor="test")
    return batch_id


def outbox(database: Database) -> list[Delivery]:
    with database.read() as session:
        return list(session.scalars(select(Delivery).order_by(Delivery.id)))


def make_due(database: Database) -> None:
    with database.write() as session:
        session.execute(update(Delivery).values(next_at=now(-1)))


# The outbox


@pytest.mark.usefixtures("champion")
def test_the_end_of_a_batch_and_its_message_are_one_transaction(database: Database) -> None:
    registered(database, "https://a.example/")
    batch_id = submit(database, 1)
    with pytest.raises(ZeroDivisionError), database.write() as session:
        batch = batches.find(session, batch_id)
        assert batch
        ending.cancel(session, batch, actor="test")
        assert session.scalar(select(func.count()).select_from(Delivery)) == 1
        _ = 1 / 0
    assert outbox(database) == []
    with database.read() as session:
        assert session.scalars(select(Batch.state)).one() == "processing"


@pytest.mark.usefixtures("champion")
def test_only_who_asked_for_an_event_is_told_and_no_name_is(database: Database) -> None:
    all_of_it = registered(database, "https://a.example/")
    registered(database, "https://b.example/", Event.COMPLETED)
    batch_id = cancelled(database)
    (message,) = outbox(database)
    told = json.loads(message.payload)
    assert (message.webhook_id, told["type"], told["data"]["batch_id"]) == (all_of_it, "batch.cancelled", batch_id)
    assert told["data"]["counts"]["cancelled"] == told["data"]["total"] == 2
    assert set(told) == {"type", "timestamp", "data"}
    assert set(told["data"]) == {"batch_id", "state", "outcome", "total", "counts"}


@pytest.mark.usefixtures("champion")
def test_a_message_that_is_claimed_is_due_again_when_its_lease_ends(database: Database) -> None:
    registered(database, "https://a.example/")
    cancelled(database)

    def claim(lease_seconds: int) -> Due | None:
        with database.write() as session:
            return webhooks.claim(session, lease_seconds=lease_seconds)

    first, second, third = claim(-1), claim(60), claim(60)
    assert first
    assert second
    assert (first.id, first.attempt, second.id, second.attempt, third) == (second.id, 1, first.id, 2, None)
    with database.write() as session:
        webhooks.settle(session, first, status=204, error=None)  # who was given up has no say any more
    assert outbox(database)[0].state == DeliveryState.PENDING
    with database.write() as session:
        webhooks.settle(session, second, status=204, error=None)
    assert outbox(database)[0].state == DeliveryState.DELIVERED


def test_the_pauses_grow_and_end() -> None:
    pauses = [webhooks.pause_seconds(attempt) for attempt in range(1, webhooks.MOST_ATTEMPTS)]
    assert all(2.6 < later / earlier < 6.1 for earlier, later in itertools.pairwise(pauses))
    assert 4 <= pauses[0] <= 6
    assert 20 * 3600 < sum(pauses) < 40 * 3600


# Delivery, to a real server


@pytest.mark.usefixtures("champion")
def test_a_message_is_signed_as_standard_webhooks_asks(database: Database, there: Receiver) -> None:
    registered(database, f"{there.url}/ok")
    cancelled(database)
    assert Couriers(database, LOOPBACK).deliver_one()
    (message,) = outbox(database)
    got = next(one for one in there.got("/ok") if one["headers"]["webhook-id"] == message.id)
    with database.read() as session:
        secret = webhooks.registered(session)[0].secret
    assert Verifier(secret).verify(got["body"], got["headers"])["type"] == "batch.cancelled"
    with pytest.raises(Exception, match="No matching signature"):
        Verifier(secret).verify(got["body"].replace("cancelled", "completed"), got["headers"])
    assert (message.state, message.last_status, message.attempts) == ("delivered", 204, 1)
    assert not Couriers(database, LOOPBACK).deliver_one()


@pytest.mark.usefixtures("champion")
@pytest.mark.parametrize(
    ("path", "status", "state"), [("/fail", 500, "pending"), ("/redirect", 302, "pending"), ("/gone", 410, "failed")]
)
def test_what_is_no_success_or_a_redirect_is_tried_again_later(
    database: Database, there: Receiver, path: str, status: int, state: str
) -> None:
    registered(database, f"{there.url}{path}")
    cancelled(database)
    assert Couriers(database, LOOPBACK).deliver_one()
    (message,) = outbox(database)
    assert (message.state, message.last_status, message.attempts) == (state, status, 1)
    assert not Couriers(database, LOOPBACK).deliver_one(), "not before its time"
    assert message.id not in {one["headers"]["webhook-id"] for one in there.got("/ok")}, "a redirect was followed"


@pytest.mark.usefixtures("champion")
def test_after_the_last_attempt_a_message_has_failed(database: Database, there: Receiver) -> None:
    registered(database, f"{there.url}/fail")
    cancelled(database)
    couriers = Couriers(database, LOOPBACK)
    for _ in range(webhooks.MOST_ATTEMPTS):
        make_due(database)
        assert couriers.deliver_one()
    make_due(database)
    assert not couriers.deliver_one()
    (message,) = outbox(database)
    assert (message.state, message.attempts) == ("failed", webhooks.MOST_ATTEMPTS)
    same = [one for one in there.got("/fail") if one["headers"]["webhook-id"] == message.id]
    assert len(same) == webhooks.MOST_ATTEMPTS


def due(url: str) -> Due:
    return Due("msg_1", url, "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0", "{}", 1)


@pytest.mark.parametrize("path", ["/hang", "/drip"])
def test_a_receiver_that_does_not_answer_is_left(there: Receiver, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(delivery, "DEADLINE_SECONDS", 1)
    assert delivery.send(due(f"{there.url}{path}"), LOOPBACK) == delivery.Attempt(error="timeout")


def test_nobody_there_is_a_failed_attempt() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/"
        assert delivery.send(due(url), LOOPBACK) == delivery.Attempt(error="connection")


@pytest.mark.usefixtures("champion")
def test_a_worker_killed_in_mid_delivery_delivers_again_under_the_same_id(database: Database, there: Receiver) -> None:
    webhook_id = registered(database, f"{there.url}/hang")
    cancelled(database)
    program = (
        "import sys; from ipaddress import ip_network; from db.database import Database; "
        "from worker.couriers import Couriers; "
        "Couriers(Database(sys.argv[1]), [ip_network('127.0.0.0/8')]).deliver_one()"
    )
    (message,) = outbox(database)

    def came() -> list[Any]:
        return [one for one in there.got("/hang") if one["headers"]["webhook-id"] == message.id]

    with subprocess.Popen([sys.executable, "-c", program, database.url], cwd=ROOT) as courier:
        until(came, "the message arrived")
        os.kill(courier.pid, signal.SIGKILL)
    assert outbox(database)[0].state == DeliveryState.PENDING
    with database.write() as session:
        session.execute(update(webhooks.Webhook).where(webhooks.Webhook.id == webhook_id).values(url=f"{there.url}/ok"))
    assert not Couriers(database, LOOPBACK).deliver_one(), "its lease has not ended"
    make_due(database)
    assert Couriers(database, LOOPBACK).deliver_one()
    assert [one for one in there.got("/ok") if one["headers"]["webhook-id"] == message.id]
    assert outbox(database)[0].state == DeliveryState.DELIVERED


def test_the_running_service_tells_a_receiver(service: Service, there: Receiver, radiograph: Radiograph) -> None:
    made = service.http.post("/v1/webhooks", json={"url": f"{there.url}/ok"}).json()
    batch_id = service.submit({"1.png": radiograph(1)})
    service.wait(batch_id)

    def told() -> list[Any]:
        bodies = [json.loads(one["body"]) for one in there.got("/ok")]
        return [body for body in bodies if body["data"]["batch_id"] == batch_id]

    (body,) = until(told, "the receiver was told")
    assert (body["type"], body["data"]["total"]) == ("batch.completed", 1)

    def log() -> Any:
        data = service.http.get(f"/v1/webhooks/{made['id']}/deliveries").json()["data"]
        return data and data[0]["state"] == "delivered" and data[0]

    (one,) = [until(log, "the log says so")]
    assert (one["batch_id"], one["attempts"], one["last_status"], one["next_at"]) == (batch_id, 1, 204, None)
    assert service.http.delete(f"/v1/webhooks/{made['id']}").status_code == 204


# Over HTTP


def test_a_webhook_is_registered_shown_and_removed(inside: Api) -> None:
    answer = inside.client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/", "events": ["batch.completed"]})
    made: Any = answer.json
    assert answer.status_code == 201
    assert made["secret"].startswith("whsec_")
    address = answer.headers["Location"]
    shown: Any = inside.client.get(address).json
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert inside.client.get("/v1/webhooks").json == {"data": [shown]}
    assert inside.client.get(f"{address}/deliveries").json == {"data": [], "has_more": False, "after": None}
    cancelled_id = inside.submit({"1.txt": b"\x89PNG\r\n\x1a\n"}).json["id"]  # type: ignore[index]  # ends at once
    page: Any = inside.client.get(f"{address}/deliveries").json
    assert [(one["event"], one["batch_id"]) for one in page["data"]] == [("batch.completed", cancelled_id)]
    assert inside.client.delete(address).status_code == 204
    assert inside.client.get(address).status_code == 404
    assert inside.client.delete(address).json["code"] == "webhook_unknown"  # type: ignore[index]
    with inside.parts.database.read() as session:
        assert proof.verify(session).problem is None
        actions = set(session.scalars(select(AuditRow.action)))
    assert {"webhook.registered", "webhook.removed"} <= actions


def test_there_are_only_so_many_webhooks(inside: Api) -> None:
    asked = {"url": "http://127.0.0.1:9/"}
    for _ in range(webhooks.MOST_WEBHOOKS):
        assert inside.client.post("/v1/webhooks", json=asked).status_code == 201
    refused: Any = inside.client.post("/v1/webhooks", json=asked).json
    assert (refused["status"], refused["code"]) == (409, "too_many_webhooks")


def test_a_webhooks_secret_is_shown_once_even_to_the_same_request(inside: Api) -> None:
    asked, headers = {"url": "http://127.0.0.1:9/"}, {"Idempotency-Key": "one"}
    first: Any = inside.client.post("/v1/webhooks", json=asked, headers=headers)
    again: Any = inside.client.post("/v1/webhooks", json=asked, headers=headers)
    assert (first.status_code, again.status_code, again.json) == (201, 201, first.json | {"secret": None})
    with inside.parts.system.read() as session:
        kept = session.scalars(select(IdempotencyKey.body)).one()
    assert kept
    assert first.json["secret"] not in kept
