"""The Python client against real servers: what it sends, what it tries again, what it says when it cannot."""

import os
import re
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import func, select

import cxr
import cxr_client
import operator_key
from api import schemas
from cxr_client import AnswerUnknown, Client, ClientError, FileUnreadable, NotAllowed, ServerAway, ServerRefused
from cxr_client.answers import Answer
from cxr_client.version import VERSION
from db import tenancy
from db.database import Database
from db.tables import Batch
from settings import Settings
from tests.chaos.proxy import Proxy, _reset
from tests.project import PYPROJECT, ROOT
from tests.service import Service, free_port, until
from training import phantoms

FOREIGN = {"tensorflow", "keras", "celery", "flask", "sqlalchemy", "api", "worker", "db", "settings"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The API without workers: batches stay open."""
    share = tmp_path_factory.mktemp("share")
    phantoms.write(share / tenancy.DEFAULT / "ward-3", count=2, seed=7)
    given = {"CXR_HOME": str(tmp_path_factory.mktemp("alone")), "CXR_PORT": str(free_port()), "REDIS_URL": "memory://"}
    settings = Settings.from_environment(given | {"CXR_IMPORT_ROOT": str(share)})
    cxr.bring_up_to_date(settings)
    operator_key.make_first(settings)
    with serving(settings):
        with client(settings) as there:
            until(lambda: there.ready().ready, "the server is ready")
        yield settings


@contextmanager
def serving(settings: Settings) -> Iterator[None]:
    with (settings.home / "api.log").open("wb") as log:
        command = [sys.executable, "-P", "-m", "cxr", "api"]
        server = subprocess.Popen(command, env=os.environ | settings.environment(), stdout=log, stderr=log)
    yield
    server.terminate()
    server.wait()


def client(settings: Settings, **more: Any) -> Client:
    return Client(f"http://{settings.host}:{settings.port}", operator_key.known(settings), **more)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return phantoms.write(tmp_path, count=3, seed=1)


@contextmanager
def saying(
    *answers: tuple[int, dict[str, str], bytes], dated: bool = True
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Another program at an address: it gives these answers in turn, and keeps what headers came."""
    heard: list[dict[str, str]] = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answers[min(len(heard), len(answers) - 1)]
            heard.append(dict(self.headers))
            if dated:
                self.send_response(status)
            else:
                self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()


# Installing


def test_the_client_alone_is_a_wheel_that_needs_none_of_the_service(tmp_path: Path) -> None:
    builder = [str(Path(sys.executable).with_name("hatchling")), "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(builder, cwd=ROOT / "cxr_client", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("cxr_client-*.whl")
    program = f"import sys, cxr_client; assert not {FOREIGN} & set(sys.modules); print(cxr_client.__file__)"
    command = [sys.executable, "-P", "-c", program]
    told = subprocess.run(
        command, env={"PYTHONPATH": str(wheel)}, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith(str(wheel))


def test_client_server_and_package_have_one_version() -> None:
    assert PYPROJECT["project"]["version"] == VERSION


def test_the_client_needs_no_field_that_the_api_does_not_answer() -> None:
    pairs: dict[type[BaseModel], type[BaseModel]] = {
        cxr_client.Batch: schemas.BatchStatus,
        cxr_client.Submitted: schemas.SubmittedAnswer,
        cxr_client.Counts: schemas.Counts,
        cxr_client.Image: schemas.ImageAnswer,
        cxr_client.Result: schemas.ResultAnswer,
        cxr_client.Limits: schemas.Limits,
        cxr_client.Ready: schemas.Ready,
    }
    for kind, answered in pairs.items():
        needed = {name for name, field in kind.model_fields.items() if field.is_required()}
        assert needed <= set(answered.model_fields), kind


# Using


def test_the_example_in_the_document_runs(service: Service, pictures: list[Path]) -> None:
    text = (ROOT / "docs" / "integrating.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert example
    assert len(example[1].splitlines()) == 10
    environment = os.environ | {"CXR_URL": service.instance.url, "CXR_KEY": str(service.key)}
    command = [sys.executable, "-c", example[1], *map(str, pictures)]
    told = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert told.returncode == 0, told.stderr
    assert [line.split()[0] for line in told.stdout.splitlines()] == [str(path) for path in pictures]
    assert {line.split()[1] for line in told.stdout.splitlines()} <= {"positive", "negative"}


def test_a_batch_is_submitted_followed_and_read_typed(service: Service, pictures: list[Path]) -> None:
    with Client(service.instance.url, service.key) as there:
        sent = there.submit([("first", pictures[0]), str(pictures[1]), pictures[2]], synthetic=True)
        seen = list(there.follow(sent.id))
        assert not seen[-1].open
        assert [batch.done for batch in seen] == sorted(batch.done for batch in seen)
        assert (seen[-1].outcome, seen[-1].counts.classified) == ("all_classified", 3)
        images = list(there.images(sent.id))
        assert [image.custom_id for image in images] == ["first", str(pictures[1]), str(pictures[2])]
        assert there.image(sent.id, "first") == images[0]
        found = there.result(str(images[0].result_id))
        assert (found.probability, found.batch_id) == (images[0].probability, sent.id)
        assert found.id in {one.id for one in there.results(model=found.model_version, since=sent.submitted_at)}
        assert list(there.results(until=datetime(2020, 1, 1, tzinfo=UTC))) == []
        assert b"".join(there.export(sent.id)).startswith(b"custom_id,")
        assert sent.id in {batch.id for batch in there.batches()}
        assert there.purge(sent.id).purged_at


def test_waiting_ends_where_its_time_is_over(alone: Settings, pictures: list[Path]) -> None:
    with client(alone) as there:
        sent = there.submit(pictures)
        with pytest.raises(cxr_client.StillOpen) as error:
            there.wait(sent.id, seconds=0.1)
        assert (error.value.code, error.value.retryable) == ("still_open", True)
        assert there.cancel(sent.id).state == "cancelled"
        assert there.wait(sent.id, seconds=0.1).outcome is None
        assert there.retry(sent.id).state == "processing"


# Sending


def test_an_upload_is_streamed_and_says_how_far_it_is(alone: Settings, tmp_path: Path) -> None:
    files = [tmp_path / "1.png", tmp_path / "2.png"]
    for file in files:
        with file.open("wb") as sparse:
            sparse.truncate(40_000_000)
    heard: list[tuple[int, int]] = []
    with client(alone) as there, pytest.raises(ServerRefused):
        there.submit(files[:1])  # what is made once is not counted
    tracemalloc.start()
    try:
        with client(alone) as there, pytest.raises(ServerRefused) as error:
            there.submit(files, on_progress=lambda sent, total: heard.append((sent, total)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (error.value.code, error.value.status, error.value.retryable) == ("no_images", 422, False)
    assert peak < 4_000_000
    assert heard[0] == (0, 80_000_000)
    assert heard[-1] == (80_000_000, 80_000_000)
    assert [sent for sent, _ in heard] == sorted(sent for sent, _ in heard)


def test_a_file_that_becomes_shorter_is_named_and_makes_no_batch(alone: Settings, tmp_path: Path) -> None:
    before = number_of_batches(alone)
    (tmp_path / "1.png").write_bytes(bytes(1_000_000))

    def cut(sent: int, _: int) -> None:
        if sent:
            os.truncate(tmp_path / "1.png", 300_000)

    with client(alone) as there, pytest.raises(FileUnreadable, match=r"1\.png became shorter"):
        there.submit([tmp_path / "1.png"], on_progress=cut)
    with client(alone) as there, pytest.raises(FileUnreadable, match=r"none\.png: No such file"):
        there.submit([tmp_path / "none.png"])
    assert number_of_batches(alone) == before


class Forgetful(Proxy):
    """Passes requests on, and loses the first answers: the connection breaks instead."""

    def __init__(self, target: int, *, lost: int) -> None:
        self.lost = lost
        super().__init__(target)

    def _forward(self, source: socket.socket) -> None:
        if self.lost and source in self._pairs and source.getpeername()[1] == self._target:
            self.lost -= 1
            _reset(self._pairs[source])
            self._end(source)
        else:
            super()._forward(source)


def number_of_batches(settings: Settings) -> int:
    database = Database(settings.database_url)
    with database.read() as session:
        number = session.scalar(select(func.count()).select_from(Batch)) or 0
    database.close()
    return number


def test_a_submission_whose_answer_was_lost_is_sent_again_and_is_one_batch(
    alone: Settings, pictures: list[Path]
) -> None:
    before, heard = number_of_batches(alone), list[str]()
    proxy = Forgetful(alone.port, lost=2)
    try:
        with Client(
            f"http://127.0.0.1:{proxy.port}",
            operator_key.known(alone),
            on_retry=lambda error, _: heard.append(error.code),
        ) as there:
            sent = there.submit(pictures)
            assert there.batch(sent.id).total == len(pictures)
    finally:
        proxy.close()
    assert set(heard) <= {"server_away", "idempotency_key_in_flight"}
    assert len(heard) >= 2
    assert number_of_batches(alone) == before + 1


def test_every_post_whose_answer_was_lost_happens_once(alone: Settings) -> None:
    proxy = Forgetful(alone.port, lost=2)
    row = {"accession": "A-1", "label": "positive", "source": "rt_pcr", "given_by": "laboratory"}
    try:
        with Client(f"http://127.0.0.1:{proxy.port}", operator_key.known(alone)) as there:
            assert there.label([row]).kept == 1
    finally:
        proxy.close()
    with client(alone) as there:
        assert len(there.ask(Answer, "GET", "/v1/labels").data) == 1  # type: ignore[attr-defined]


def test_a_draft_is_filled_image_by_image_and_then_submitted(alone: Settings, pictures: list[Path]) -> None:
    with client(alone) as there:
        draft = there.draft(total=3, synthetic=True)
        first = draft.put("ward-3/1.png", pictures[0])
        assert (first.custom_id, first.state) == ("ward-3/1.png", "received")
        assert draft.put("ward-3/1.png", pictures[0]) == first
        with pytest.raises(ServerRefused, match="other_bytes"):
            draft.put("ward-3/1.png", pictures[1])
        with pytest.raises(ServerRefused, match="total_differs"):
            draft.submit()
        for path in pictures[1:]:
            draft.put(path.name, path)
        sent = draft.submit()
    assert (sent.id, sent.total, sent.state, sent.synthetic) == (draft.id, 3, "processing", True)


def test_images_on_the_servers_share_are_submitted_by_their_paths(alone: Settings) -> None:
    with client(alone) as there:
        sent = there.import_(["ward-3"], synthetic=True)
        assert [image.custom_id for image in there.images(sent.id)] == [
            "ward-3/synthetic-0001.png",
            "ward-3/synthetic-0002.16bit.png",
        ]
        with pytest.raises(ServerRefused, match="import_path"):
            there.import_(["../other"])


def test_the_same_key_makes_no_second_batch_and_another_body_is_refused(alone: Settings, pictures: list[Path]) -> None:
    with client(alone) as there:
        first = there.submit(pictures, idempotency_key="night-shift")
        assert there.submit(pictures, idempotency_key="night-shift").id == first.id
        with pytest.raises(ServerRefused) as error:
            there.submit(pictures[:1], idempotency_key="night-shift")
    assert (error.value.code, error.value.retryable) == ("idempotency_key_reused", False)


# Trying again


def test_a_server_that_starts_late_is_waited_for(tmp_path: Path) -> None:
    settings = Settings.from_environment(
        {"CXR_HOME": str(tmp_path), "CXR_PORT": str(free_port()), "REDIS_URL": "memory://"}
    )
    cxr.bring_up_to_date(settings)
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


# The key


def test_the_key_goes_into_one_header_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with saying((401, {}, b"no")) as (url, heard):
        monkeypatch.setenv("CXR_URL", url)
        monkeypatch.setenv("CXR_KEY", "cxr_1_secret")
        with Client.from_environment() as there, pytest.raises(NotAllowed) as error:
            there.batches()
    (headers,) = heard
    assert [name for name, value in headers.items() if "secret" in value] == ["Authorization"]
    assert headers["Authorization"] == "Bearer cxr_1_secret"
    assert "secret" not in f"{error.value} {vars(error.value)} {vars(there)}"
