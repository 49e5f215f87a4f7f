"""One key cannot crowd out the others: requests a minute, images and bytes a day, a queue that is full."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from werkzeug.test import TestResponse

import up
from settings import Settings
from tests.access import show_key
from tests.service import until
from tests.uploading import Api, Radiograph
from worker import broker


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[tuple[Settings, up.Part]]:
    """The embedded broker, without the rest of an instance."""
    settings = Settings.from_environment({"CXR_HOME": str(tmp_path)})
    (tmp_path / "logs").mkdir()
    instance = up.Instance(settings, say=print)
    instance._start_broker()
    yield settings, instance._parts[0]
    instance.stop()


def asked(api: Api, times: int) -> list[int]:
    return [api.client.get("/v1/batches").status_code for _ in range(times)]


def refused(answer: TestResponse, code: str) -> int:
    """Assert the 429, and return its Retry-After."""
    told: Any = answer.json
    assert (answer.status_code, told["code"], told["retryable"]) == (429, code, True)
    return int(answer.headers["Retry-After"])


def test_a_key_that_asks_too_often_waits_and_others_do_not(valkey: tuple[Settings, up.Part]) -> None:
    settings = replace(valkey[0], requests_per_minute=5)
    api, second = Api(settings), Api(settings)

    def counted_together() -> bool:
        """With a new key each time, since a minute may end in between; then the count begins anew."""
        show_key(api.client)
        second.client.environ_base = dict(api.client.environ_base)  # the same key at another server
        return asked(api, 3) + asked(second, 3) == [200] * 5 + [429]

    assert any(counted_together() for _ in range(3))
    until(lambda: 429 in asked(api, 6), "too many within one minute")
    assert 1 <= refused(api.client.get("/v1/batches"), "too_many_requests") <= 61
    assert api.client.get("/livez").status_code == 200
    show_key(api.client)
    assert asked(api, 1) == [200]
    for one in (api, second):
        one.parts.system.close()


def test_a_broker_that_is_down_stops_nobody(
    valkey: tuple[Settings, up.Part], radiograph: Radiograph, caplog: pytest.LogCaptureFixture
) -> None:
    settings, part = valkey
    api = Api(replace(settings, requests_per_minute=1_000, images_per_day=10, bytes_per_day=10_000_000))
    assert asked(api, 1) == [200]
    assert part.process
    part.process.kill()
    part.process.wait()
    assert asked(api, 2) == [200, 200]
    assert api.submit({"a.png": radiograph(1)}).status_code == 202
    assert "falling back to in-memory storage" in caplog.text
    with pytest.raises(redis.RedisError):
        redis.Redis(unix_socket_path=settings.redis_url.removeprefix("redis+socket://")).ping()
    assert not broker.answers(settings)
    api.parts.system.close()


def test_a_day_has_so_many_images(settings: Settings, radiograph: Radiograph) -> None:
    api = Api(replace(settings, images_per_day=3))
    assert api.submit({"a.png": radiograph(1), "b.png": radiograph(2)}).status_code == 202
    late = api.submit({"c.png": radiograph(3), "d.png": radiograph(4)})
    assert 1 <= refused(late, "quota_used") <= 24 * 3600
    assert len(api.images()) == 2
    assert api.submit({"c.png": radiograph(3)}).status_code == 202, "what was refused does not count"
    refused(api.submit({"e.png": radiograph(5)}), "quota_used")
    show_key(api.client)
    assert api.submit({"e.png": radiograph(5)}).status_code == 202, "another key has its own day"
    api.parts.system.close()


def test_a_day_has_so_many_bytes(settings: Settings, radiograph: Radiograph) -> None:
    size = len(radiograph(1))
    api = Api(replace(settings, bytes_per_day=5 * size // 2))
    assert api.submit({"a.png": radiograph(1)}).status_code == 202
    refused(api.submit({"b.png": radiograph(2), "c.png": radiograph(3)}), "quota_used")
    assert len(api.images()) == 1
    api.nothing_unfinished()
    api.parts.system.close()


@pytest.mark.parametrize("quota", [{"images_per_day": 1}, {"bytes_per_day": 100}])
def test_what_is_more_than_a_whole_day_is_not_to_be_sent_again(
    settings: Settings, radiograph: Radiograph, quota: dict[str, Any]
) -> None:
    api = Api(replace(settings, **quota))
    answer = api.submit({"a.png": radiograph(1), "b.png": radiograph(2)})
    told = api.refuses(answer, 413, "more_than_a_day")
    assert told["retryable"] is False
    assert "Retry-After" not in answer.headers
    api.parts.system.close()


def test_a_full_queue_takes_no_more(settings: Settings, radiograph: Radiograph) -> None:
    api = Api(replace(settings, max_waiting=2))
    sent = api.submit({"a.png": radiograph(1), "b.png": radiograph(2)})
    assert sent.status_code == 202
    assert refused(api.submit({"c.png": radiograph(3)}), "queue_full") >= 1
    assert api.client.get("/v1/batches").status_code == 200
    batch: Any = sent.json
    assert api.client.post(f"/v1/batches/{batch['id']}/cancel").status_code == 202
    assert api.submit({"c.png": radiograph(3)}).status_code == 202
    api.parts.system.close()


def test_guessing_keys_is_slow(settings: Settings) -> None:
    api = Api(settings)
    until(
        lambda: api.client.post("/sign-in", data={"key": "cxr_none"}).status_code == 429,
        "an address tries to sign in too often",
    )
    assert asked(api, 1) == [200]
    api.parts.system.close()


@pytest.mark.parametrize(("proxies", "origin"), [(0, "127.0.0.1"), (1, "192.0.2.7"), (2, "198.51.100.9")])
def test_the_audit_knows_where_a_request_came_from_behind_trusted_proxies(
    settings: Settings, proxies: int, origin: str
) -> None:
    """What the sender itself wrote into the header stands first, and is believed where a proxy is missing only."""
    api = Api(replace(settings, trusted_proxies=proxies))
    forwarded = {"X-Forwarded-For": "203.0.113.1, 198.51.100.9, 192.0.2.7"}
    assert api.client.post("/v1/keys", json={"name": "x", "scopes": ["read"]}, headers=forwarded).status_code == 201
    told: Any = api.client.get("/v1/audit?action=key.created").json
    assert told["data"][-1]["origin"] == origin
    api.parts.system.close()
