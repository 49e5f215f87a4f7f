"""The embedded broker: what was left behind of an earlier one neither stays nor costs time."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from settings import Settings
from tests.service import until
from worker import broker


@pytest.fixture
def embedded(tmp_path: Path) -> Settings:
    return Settings.from_environment({"CXR_HOME": str(tmp_path)})


@pytest.fixture
def running(embedded: Settings) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(broker.command(embedded), stdout=subprocess.DEVNULL) as server:
        until(lambda: broker.answers(embedded), "the broker answers")
        yield server
        server.kill()


def test_one_that_was_left_behind_is_ended(embedded: Settings, running: subprocess.Popen[bytes]) -> None:
    broker.command(embedded)
    assert running.wait(timeout=10) == 0
    assert not broker.answers(embedded)


def test_where_none_runs_nobody_waits_for_it(embedded: Settings, running: subprocess.Popen[bytes]) -> None:
    running.kill()
    running.wait()
    began = time.monotonic()
    for _ in range(2):  # with the socket of one that was killed, and without
        broker.command(embedded)
        assert not broker.answers(embedded)
        Path(embedded.redis_url.removeprefix("redis+socket://")).unlink(missing_ok=True)
    assert time.monotonic() - began < 1
