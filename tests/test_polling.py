"""Asking where a batch stands: tags, waiting, forecasts, cursors and forms of the answer."""

import threading
import time
from typing import Any
from urllib.parse import quote

import pytest

from api import polling
from db import batches, ending, heartbeats
from tests.access import show_key
from tests.uploading import Api, Radiograph, multipart


@pytest.fixture
def batch(api: Api, radiograph: Radiograph) -> str:
    answer = api.submit({f"{number}.png": radiograph(number) for number in range(5)})
    assert answer.json
    return f"/v1/batches/{answer.json['id']}"


def cancel(api: Api, address: str) -> None:
    assert api.client.post(f"{address}/cancel").status_code == 202


def test_an_answer_that_has_not_changed_is_304(api: Api, batch: str) -> None:
    tag = api.client.get(batch).headers["ETag"]
    assert tag.startswith('W/"')
    again = api.client.get(batch, headers={"If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")
    cancel(api, batch)
    assert api.client.get(batch, headers={"If-None-Match": tag}).status_code == 200


def test_waiting_ends_with_the_change(api: Api, batch: str) -> None:
    other = show_key(api.client.application.test_client())
    threading.Timer(0.5, lambda: other.post(f"{batch}/cancel")).start()
    start = time.monotonic()
    answer = api.client.get(batch, headers={"Prefer": "respond-async, wait=20"})
    assert answer.json
    assert (answer.json["state"], answer.headers["Preference-Applied"]) == ("cancelled", "wait=20")
    assert time.monotonic() - start < 15


def test_waiting_ends_with_its_time_and_is_not_for_closed_batches(api: Api, batch: str) -> None:
    answer = api.client.get(batch, headers={"Prefer": "wait=1"})
    assert answer.json
    assert (answer.json["state"], answer.headers["Preference-Applied"]) == ("processing", "wait=1")
    cancel(api, batch)
    assert "Preference-Applied" not in api.client.get(batch, headers={"Prefer": "wait=20"}).headers


def test_only_so_many_wait_at_once() -> None:
    patience, inside, leave = polling.Patience(1), threading.Event(), threading.Event()

    def first() -> bool:
        inside.set()
        return leave.wait(30)

    waiting = threading.Thread(target=lambda: patience.wait(30, first))
    waiting.start()
    inside.wait(30)
    assert not patience.wait(30, lambda: False)
    leave.set()
    waiting.join()
    assert patience.wait(0, lambda: True)


@pytest.mark.parametrize(
    ("header", "seconds"), [("wait=5", 5), ("foo; wait = 7, bar", 7), ("wait=9999", 30), ("wait=-1", 0), ("await=3", 0)]
)
def test_prefer_is_read_as_the_rfc_writes_it(api: Api, header: str, seconds: int) -> None:
    with api.client.application.test_request_context(headers={"Prefer": header}):
        from flask import request  # noqa: PLC0415 - the one of this context

        assert polling.wanted_seconds(request) == seconds


def test_the_forecast_counts_what_is_begun_before(api: Api, batch: str, radiograph: Radiograph) -> None:
    answer = api.post(multipart([("urgent.png", radiograph(99))]), query_string={"lane": "urgent"})
    assert answer.json
    first, urgent = (api.client.get(address).json or {} for address in (batch, f"/v1/batches/{answer.json['id']}"))
    assert (first["queue_position"], urgent["queue_position"]) == (1, 0)
    assert first["eta_seconds"] is None, "no worker has said its pace"
    with api.parts.database.write() as session:
        heartbeats.beat(session, "w1", device="CPU", problem=None)
        heartbeats.beat(session, "w1", device="CPU", problem=None, images_per_second=2.0)
    told: Any = api.client.get(batch).json
    assert told["eta_seconds"] == 3.0, "six images at two in a second"
    cancel(api, batch)
    closed: Any = api.client.get(batch).json
    assert (closed["queue_position"], closed["eta_seconds"]) == (None, None)


def test_a_submissions_pause_follows_the_queue_too(api: Api, radiograph: Radiograph) -> None:
    with api.parts.database.write() as session:
        heartbeats.beat(session, "w1", device="CPU", problem=None)
        heartbeats.beat(session, "w1", device="CPU", problem=None, images_per_second=0.05)
    first = api.submit({"1.png": radiograph(1)})
    assert first.headers["Retry-After"] == "5", "one image in 20 seconds"
    draft = api.client.post("/v1/batches", json={}).headers["Location"]
    assert api.client.put(f"{draft}/images/2.png", data=radiograph(2)).status_code == 201
    assert api.client.post(f"{draft}/submit").headers["Retry-After"] == "10", "another waits before it"
    assert api.client.get(draft).headers["Retry-After"] == "10"


@pytest.mark.parametrize(("eta", "pause"), [(None, "2"), (0.1, "1"), (20.0, "5"), (86_400.0, "60")])
def test_the_pause_follows_the_queue(eta: float | None, pause: str) -> None:
    assert polling.pause(eta) == pause


def test_images_come_by_state_by_name_and_page_by_page(api: Api, batch: str) -> None:
    with api.parts.database.write() as session:
        found = batches.find(session, batch.rpartition("/")[2])
        assert found
        ending.cancel(session, found, actor="test")
    assert len(api.client.get(f"{batch}/images?state=cancelled").json["data"]) == 5  # type: ignore[index]
    assert api.client.get(f"{batch}/images?state=queued").json["data"] == []  # type: ignore[index]
    names, after = [], ""
    while after is not None:
        page: Any = api.client.get(f"{batch}/images?limit=2" + (f"&after={after}" if after else "")).json
        names += [one["custom_id"] for one in page["data"]]
        after = page["after"]
    assert names == [f"{number}.png" for number in range(5)]
    one: Any = api.client.get(f"{batch}/images/3.png").json
    assert one["custom_id"] == "3.png"
    assert api.client.get(f"{batch}/images/none.png").status_code == 404


def test_results_come_as_ndjson_too(api: Api, batch: str) -> None:
    cancel(api, batch)
    by_suffix = api.client.get(f"{batch}/results.ndjson")
    by_accept = api.client.get(f"{batch}/results", headers={"Accept": "application/x-ndjson"})
    assert by_suffix.content_type.startswith("application/x-ndjson")
    assert by_suffix.text == by_accept.text
    assert len(by_suffix.text.splitlines()) == 5
    assert api.client.get(f"{batch}/results.xml").status_code == 404


@pytest.mark.parametrize("custom_id", ["/mnt/ward-3/1.png", "ward//1.png", "a b%2Fc?.png", "胸部.png"])
def test_an_image_is_found_by_any_custom_id(api: Api, radiograph: Radiograph, custom_id: str) -> None:
    batch = api.submit({custom_id: radiograph(1)}).get_json()["id"]
    answer: Any = api.client.get(f"/v1/batches/{batch}/images/{quote(custom_id, safe='')}").json
    assert answer["custom_id"] == custom_id
