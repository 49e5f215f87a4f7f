"""What the Python client tries again, how long, and what it says when it cannot."""

from pathlib import Path
from typing import Any

import pytest

import operator_key
import up
from cxr_client import AnswerUnknown, Client, ClientError, NotAllowed, ServerAway, ServerRefused
from settings import Settings
from tests.clients import alone, client, pictures, saying, serving
from tests.service import free_port

__all__ = ["alone", "pictures"]  # fixtures


def test_a_server_that_starts_late_is_waited_for(tmp_path: Path) -> None:
    settings = Settings.from_environment(
        {"CXR_HOME": str(tmp_path), "CXR_PORT": str(free_port()), "REDIS_URL": "memory://"}
    )
    up.bring_up_to_date(settings)
    operator_key.make_first(settings)
    entered: list[Any] = []

    def start(error: ClientError, _: float) -> None:
        assert isinstance(error, ServerAway)
        if not entered:
            entered.append(serving(settings))
            entered[0].__enter__()

    try:
        with client(settings, on_retry=start) as there:
            assert there.batches() == []
    finally:
        entered[0].__exit__(None, None, None)


def test_a_server_that_is_away_is_an_error_that_may_pass() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", patience_seconds=0) as there, pytest.raises(ServerAway) as error:
        there.batches()
    assert (error.value.code, error.value.retryable) == ("server_away", True)


BUSY = b'{"code": "too_many_requests", "detail": "Later.", "retryable": true}'
NONE: dict[str, str] = {}
EMPTY = b'{"data": [], "has_more": false, "after": null}'


def test_retry_after_is_kept_to() -> None:
    heard: list[float] = []
    busy = (429, {"Retry-After": "1"}, BUSY)
    with (
        saying(busy, busy, (200, NONE, EMPTY)) as (url, _),
        Client(url, on_retry=lambda _, seconds: heard.append(seconds)) as there,
    ):
        assert there.batches() == []
    assert heard == [1, 1]


def test_a_longer_pause_than_the_patience_is_the_callers_to_make() -> None:
    answer = (503, {"Retry-After": "30"}, BUSY)
    with (
        saying(answer) as (url, heard),
        Client(url, patience_seconds=20) as there,
        pytest.raises(ServerRefused) as error,
    ):
        there.batches()
    assert len(heard) == 1
    assert (error.value.retry_after_seconds, error.value.retryable) == (30, True)


@pytest.mark.parametrize(("status", "kind"), [(401, NotAllowed), (403, NotAllowed), (404, ServerRefused)])
def test_what_will_not_pass_is_asked_once(status: int, kind: type[ServerRefused]) -> None:
    told = b'{"code": "some_code", "detail": "In its own words.", "retryable": false}'
    with saying((status, {}, told)) as (url, heard), Client(url) as there, pytest.raises(ServerRefused) as error:
        there.batch("batch_0")
    assert type(error.value) is kind
    assert str(error.value) == "In its own words. (some_code)"
    assert len(heard) == 1


def test_a_conflict_that_waits_for_a_batch_is_not_sat_out(alone: Settings, pictures: list[Path]) -> None:
    with client(alone, on_retry=lambda *_: pytest.fail("it is the caller's to wait")) as there:
        sent = there.submit(pictures)
        with pytest.raises(ServerRefused) as error:
            list(there.export(sent.id))
    assert (error.value.code, error.value.retryable) == ("not_finished", True)


@pytest.mark.parametrize("answer", [b"<html>It works!</html>", b"[]", b'{"data": [{"id": 7}]}'])
def test_what_is_no_answer_of_this_api_is_an_error_of_the_same_tree(answer: bytes) -> None:
    with saying((200, {}, answer)) as (url, _), Client(url) as there, pytest.raises(AnswerUnknown):
        there.batches()
