"""The pool of decoding processes, with real processes that really die."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import psutil
import pytest
from PIL import Image

from db.blobs import Blobs
from db.identifiers import Identifiers
from settings import Settings
from tests.dicoms import radiograph as dicom_radiograph
from tests.dicoms import written
from tests.pictures import saved
from tests.service import until
from tests.test_catalogue import header
from worker.decoders import Decoded, Decoders, DecodersUnusable
from worker.radiograph import decode, decode_noting
from worker.rejection import ImageRejected

CHILDREN = 2


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with closing(Decoders(CHILDREN, seconds=20, address_space=2 << 30)) as decoders:
        decoders.warm_up()
        yield decoders


def picture(seed: int, size: int = 200) -> bytes:
    return saved(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size), np.uint8)))


def slow() -> bytes:
    """About a second of work: 81 megapixels with a palette, which take four bytes each."""
    return saved(Image.fromarray(np.zeros((9_000, 9_000), np.uint8)).convert("P"), compress_level=9)


def codes(answers: list[Any]) -> list[str]:
    return [answer.code if isinstance(answer, ImageRejected) else "decoded" for answer in answers]


def children(decoders: Decoders) -> list[psutil.Process]:
    return [psutil.Process(one._child._process.pid) for one in decoders._decoders if one._child._process]


def test_answers_keep_the_order(decoders: Decoders, blobs: Blobs) -> None:
    files = [picture(seed) for seed in range(50)]
    answers = decoders.decode([blobs.path(blobs.put(data)) for data in files])
    for data, answer in zip(files, answers, strict=True):
        assert isinstance(answer, Decoded)
        np.testing.assert_array_equal(answer.grey, decode(data))
        assert answer.milliseconds > 0
        assert answer.identifiers is None


def test_nothing_to_decode_is_no_answer(decoders: Decoders) -> None:
    assert decoders.decode([]) == []


def test_a_bad_file_is_rejected_alone(decoders: Decoders, blobs: Blobs) -> None:
    files = [picture(1), b"not an image", picture(2), picture(3)[:-30], b"", picture(4)]
    answers = decoders.decode([blobs.path(blobs.put(data)) for data in files])
    expected = ["decoded", "unsupported_type", "decoded", "truncated", "truncated", "decoded"]
    assert codes(answers) == expected


def test_lost_and_damaged_blobs_are_told_apart_from_bad_images(decoders: Decoders, blobs: Blobs) -> None:
    whole, damaged = (blobs.path(blobs.put(picture(seed))) for seed in (1, 2))
    damaged.write_bytes(picture(3))
    missing = whole.with_name("0" * 64)
    assert codes(decoders.decode([damaged, whole, missing, blobs.root])) == [
        "image_lost", "decoded", "image_lost", "image_lost",
    ]  # fmt: skip


def test_dicom_brings_its_identifiers(decoders: Decoders, blobs: Blobs) -> None:
    answer = decoders.decode([blobs.path(blobs.put(written(dicom_radiograph())))])[0]
    assert isinstance(answer, Decoded)
    assert answer.identifiers == Identifiers("1.2.3", "1.2.3.4", "A-1")


def test_a_child_that_is_killed_once_costs_nobody_an_answer(decoders: Decoders, blobs: Blobs) -> None:
    paths = [blobs.path(blobs.put(data)) for data in [picture(1), slow(), picture(2), picture(3)]]
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.extend(decoders.decode(paths)))
    asking.start()
    _busy(decoders).kill()
    asking.join()
    assert codes(answers) == ["decoded"] * 4


def test_an_image_that_ends_two_children_is_blamed_and_its_neighbours_are_not(decoders: Decoders, blobs: Blobs) -> None:
    paths = [blobs.path(blobs.put(data)) for data in [picture(1), slow(), picture(2), picture(3)]]
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.extend(decoders.decode(paths)))
    asking.start()
    first = _busy(decoders)
    first.kill()
    _busy(decoders, other_than=first).kill()
    asking.join()
    assert codes(answers) == ["decoded", "decoder_died", "decoded", "decoded"]
    assert codes(decoders.decode(paths)) == ["decoded"] * 4


def _busy(decoders: Decoders, other_than: psutil.Process | None = None) -> psutil.Process:
    """The child that holds the pixels of the slow image."""

    def holding() -> psutil.Process | None:
        for child in children(decoders):
            if child != other_than and child.is_running() and child.memory_info().rss > 150_000_000:
                return child
        return None

    found: psutil.Process = until(holding, "a child with the slow image")
    return found


def test_children_killed_while_idle_are_replaced(decoders: Decoders, blobs: Blobs) -> None:
    decoders.warm_up()
    before = children(decoders)
    for child in before:
        child.kill()
    paths = [blobs.path(blobs.put(picture(seed))) for seed in range(40)]
    assert codes(decoders.decode(paths)) == ["decoded"] * 40
    assert not set(before) & set(children(decoders))


def test_an_image_that_takes_too_long_is_given_up(blobs: Blobs) -> None:
    paths = [blobs.path(blobs.put(data)) for data in [picture(1), picture(2), picture(3)]]
    hanging = blobs.root / "hanging"
    os.mkfifo(hanging)
    with closing(Decoders(1, seconds=1, address_space=2 << 30)) as decoders:
        decoders.warm_up()
        assert codes(decoders.decode([paths[0], hanging, paths[1]])) == ["decoded", "decode_timeout", "decoded"]
        assert codes(decoders.decode(paths)) == ["decoded"] * 3


def test_a_child_that_stands_still_is_replaced(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.decoders._PATIENCE_SECONDS", 1)
    paths = [blobs.path(blobs.put(data)) for data in [picture(1), picture(2), picture(3)]]
    with closing(Decoders(1, seconds=1, address_space=2 << 30)) as decoders:
        decoders.warm_up()
        stopped = children(decoders)[0]
        stopped.send_signal(signal.SIGSTOP)
        assert codes(decoders.decode(paths)) == ["decoded"] * 3
        assert not stopped.is_running()


def test_a_child_counts_pixels_as_it_is_set(blobs: Blobs, settings: Settings) -> None:
    files = [picture(1, 100), picture(2, 101), written(dicom_radiograph(np.zeros((101, 100), np.uint8)))]
    with closing(Decoders.of(replace(settings, max_pixels=10_000), 1)) as decoders:
        paths = [blobs.path(blobs.put(data)) for data in files]
        assert codes(decoders.decode(paths)) == ["decoded", "too_large", "too_large"]
    beyond = header(20_000, 20_000)  # Pillow has a limit of its own
    for most, code in ((100_000_000, "too_large"), (1_000_000_000, "truncated")):
        with pytest.raises(ImageRejected) as rejected:
            decode_noting(beyond, max_pixels=most)
        assert rejected.value.code == code


def test_an_image_that_needs_too_much_memory_is_rejected_and_the_child_lives(blobs: Blobs) -> None:
    least = next(
        spec.metadata["least"] for spec in Settings.__dataclass_fields__.values() if spec.name == "decode_bytes"
    )
    huge = saved(Image.fromarray(np.zeros((9_900, 9_900, 3), np.uint8)), compress_level=1)
    deep = written(dicom_radiograph(np.zeros((6_000, 6_000), np.uint16), bits=16))
    paths = [blobs.path(blobs.put(data)) for data in [picture(1), huge, picture(2), deep, picture(3)]]
    with closing(Decoders(1, seconds=20, address_space=least)) as decoders:
        decoders.warm_up()
        before = children(decoders)
        assert codes(decoders.decode(paths)) == ["decoded", "decode_memory", "decoded", "decode_memory", "decoded"]
        assert children(decoders) == before


def test_a_child_that_cannot_start_is_no_fault_of_the_image(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [blobs.path(blobs.put(picture(1)))]
    with closing(Decoders(1, seconds=20, address_space=2 << 30)) as decoders:
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", "/bin/false")
            with pytest.raises(DecodersUnusable, match="does not start: exit code 1"):
                decoders.decode(paths)
        assert codes(decoders.decode(paths)) == ["decoded"]


def test_an_answer_that_was_not_taken_is_never_given_to_another_question(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (blobs.path(blobs.put(picture(seed))) for seed in (1, 2))
    with closing(Decoders(1, seconds=20, address_space=2 << 30)) as decoders:
        decoders.warm_up()
        with monkeypatch.context() as short_of_memory:
            short_of_memory.setattr("multiprocessing.connection.Connection.poll", Mock(side_effect=MemoryError))
            with pytest.raises(MemoryError):
                decoders.decode([first])
        (answer,) = decoders.decode([second])
    assert isinstance(answer, Decoded)
    np.testing.assert_array_equal(answer.grey, decode(picture(2)))


def test_waiting_is_told_to_whoever_holds_the_lease(blobs: Blobs) -> None:
    told: list[bool] = []
    with closing(Decoders(1, seconds=20, address_space=2 << 30)) as decoders:
        decoders.decode([blobs.path(blobs.put(slow()))], meanwhile=lambda: told.append(True), every=0.1)
    assert len(told) > 1


def test_a_child_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://cxr:secret@db/cxr")
    monkeypatch.setenv("REDIS_URL", "redis://:secret@broker")
    with closing(Decoders(1, seconds=1, address_space=2 << 30)) as decoders:
        decoders.warm_up()
        assert "secret" not in str(children(decoders)[0].environ())


def test_closing_leaves_no_process() -> None:
    decoders = Decoders(CHILDREN, seconds=5, address_space=2 << 30)
    decoders.warm_up()
    running = children(decoders)
    assert len(running) == CHILDREN
    decoders.close()
    assert not any(child.is_running() for child in running)


_PARENT = """
import sys
from pathlib import Path
from worker.decoders import Decoders
decoders = Decoders(2, seconds=2, address_space=2 << 30)
decoders.warm_up()
print(*(one._child._process.pid for one in decoders._decoders), flush=True)
decoders.decode([Path(sys.argv[1])])
"""


def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    os.mkfifo(hanging)  # one child waits for its bytes, the other for work
    with subprocess.Popen([sys.executable, "-c", _PARENT, hanging], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        running = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(running) == CHILDREN
        parent.kill()
    until(lambda: not any(child.is_running() for child in running), "no orphan", seconds=10)
