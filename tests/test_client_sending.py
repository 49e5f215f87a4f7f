"""What the Python client sends arrives once, streamed, or is named."""

import os
import socket
import tracemalloc
from pathlib import Path

import pytest
from sqlalchemy import func, select

import operator_key
from cxr_client import Client, FileUnreadable, ServerRefused
from cxr_client.answers import Answer
from db.database import Database
from db.tables import Batch
from settings import Settings
from tests.chaos.proxy import Proxy, _reset
from tests.clients import alone, client, pictures

__all__ = ["alone", "pictures"]  # fixtures


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
