"""`cxr reclassify` from another machine, with a trainer that is a process: it starts, is killed, and goes on."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import operator_key
from db import batches, proof, tenancy
from db.batches import Item
from db.tables import Lane
from settings import Settings
from terminal import Exit
from tests.clients import client, serving
from tests.recalling import COUNT, STRICT, Recalled, classified, flips, rows
from tests.service import Service, free_port, until
from tests.test_cli import CXR, cxr

__all__ = ["classified"]
VERSIONS = ("--model", Recalled.shipped, "--with", STRICT)


class Elsewhere:
    """The command line of another machine: an address and a key, and nothing else."""

    def __init__(self, settings: Settings) -> None:
        self.environment = {
            "CXR_URL": f"http://{settings.host}:{settings.port}",
            "CXR_KEY": operator_key.known(settings) or "",
        }

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return cxr("reclassify", *words, home=Path("/nonexistent"), **self.environment)

    def begun(self, *words: str) -> subprocess.Popen[str]:
        environment = os.environ | self.environment | {"CXR_HOME": "/nonexistent", "COLUMNS": "160"}
        return subprocess.Popen([CXR, "reclassify", *words], env=environment, stderr=subprocess.PIPE, text=True)


def told(answer: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(answer.stdout)["data"]


def copied(classified: Recalled, home: Path, **more: str) -> Recalled:
    shutil.copytree(classified.settings.home, home, dirs_exist_ok=True)
    given = {"CXR_HOME": str(home), "CXR_PORT": str(free_port()), "CXR_SWEEP_SECONDS": "1"} | more
    made = Recalled(Settings.from_environment(given), classified.batch_id)
    operator_key.make_first(made.settings)
    return made


@pytest.mark.long
def test_the_first_recall_starts_a_trainer_and_the_command_shows_what_changed(
    classified: Recalled, tmp_path: Path
) -> None:
    recalled = copied(classified, tmp_path)
    elsewhere = Elsewhere(recalled.settings)
    with Service.started(recalled.settings) as service:
        assert service.instance.pids("trainer") == []
        dry = elsewhere(*VERSIONS, "--dry-run", "--json")
        assert dry.returncode == Exit.DONE, dry.stderr
        assert (told(dry)["state"], told(dry)["done"], len(rows(recalled))) == ("succeeded", COUNT, COUNT)
        assert len(service.instance.pids("trainer")) == 1
        shown = elsewhere(*VERSIONS)
        assert shown.returncode == Exit.DONE, shown.stderr
        changes = flips(recalled)
        assert changes == told(dry)["changes"]
        flipped = changes["positive"]["negative"]
        assert f"{COUNT} results amended, {flipped} with another label" in shown.stdout
        assert ["positive", "negative", str(flipped)] in [line.split() for line in shown.stdout.splitlines()]
        here = cxr("reclassify", *VERSIONS, home=recalled.settings.home)
        assert (here.returncode, "0 results amended" in here.stdout) == (Exit.DONE, True), "the same on the server"
        assert [(run["done"], run["dry_run"]) for run in told(elsewhere("--list", "--json"))] == [
            (0, False),
            (COUNT, False),
            (COUNT, True),
        ]
        assert elsewhere("--list").stdout.count("succeeded") == 3
    recalled.database.close()


@contextmanager
def training(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    with (settings.home / "trainer.log").open("ab") as log:
        command = subprocess.Popen([CXR, "trainer"], env=os.environ | settings.environment(), stdout=log, stderr=log)
    yield command
    command.terminate()
    command.wait()


@pytest.fixture
def alone(classified: Recalled, tmp_path: Path) -> Iterator[Recalled]:
    """The API without workers; a trainer rests for half a minute after each image, while a line that nobody works at is busy."""
    few = {"CXR_BATCH_SIZE": "1", "CXR_LEASE_SECONDS": "18", "CXR_DECODE_SECONDS": "6", "CXR_TRAINER_SHARE": "1"}
    made = copied(classified, tmp_path, REDIS_URL="memory://", **few)
    with serving(made.settings):
        with client(made.settings) as there:
            until(lambda: there.ready().ready, "the server is ready")
        yield made
    made.database.close()


@pytest.mark.long
def test_a_trainer_that_is_killed_in_the_middle_is_followed_by_one_that_counts_on(alone: Recalled) -> None:
    elsewhere = Elsewhere(alone.settings)
    with alone.database.of(tenancy.DEFAULT).write() as session:
        item = Item("a.png", alone.blobs.put(b"x"), 1, "image/png")
        waiting = batches.add(session, [item], lane=Lane.ROUTINE, actor="test").id
    with training(alone.settings) as first:
        command = elsewhere.begun(*VERSIONS)
        with client(alone.settings) as there:
            run = until(lambda: next((one for one in there.reclassifications.all() if one.done), None), "an image")
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=60)
        assert (command.returncode, f"{run.id} goes on" in said) == (Exit.INTERRUPTED, True), said
        assert elsewhere(*VERSIONS).returncode == Exit.AWAY, "one at a time"
        first.kill()
        first.wait()
    left = alone.standing(run.id)
    assert (left.state, 0 < left.done < COUNT) == ("running", True)
    assert len(rows(alone)) == COUNT + left.done
    with client(alone.settings) as there:
        there.cancel(waiting)
    with training(alone.settings):
        ended = elsewhere("--follow", run.id, "--json")
    assert ended.returncode == Exit.DONE, ended.stderr
    assert {name: told(ended)[name] for name in ("state", "attempts", "total", "done", "missing", "changes")} == {
        "state": "succeeded",
        "attempts": 2,
        "total": COUNT,
        "done": COUNT,
        "missing": {},
        "changes": flips(alone),
    }
    assert len(rows(alone)) == 2 * COUNT
    with alone.database.read() as session:
        assert proof.verify(session).problem is None


def test_a_recall_that_waits_is_stopped_at_once_and_what_is_wrong_is_said(alone: Recalled) -> None:
    elsewhere = Elsewhere(alone.settings)
    run_id = alone.ask()
    stopped = elsewhere("--cancel", run_id, "--json")
    assert (stopped.returncode, told(stopped)["state"]) == (Exit.DONE, "cancelled")
    followed = elsewhere("--follow", run_id)
    assert (followed.returncode, "cancelled" in followed.stdout) == (Exit.PROBLEM, True)
    assert elsewhere("--cancel", run_id).returncode == Exit.REFUSED
    assert elsewhere("--model", "nothing", "--with", STRICT).returncode == Exit.REFUSED
    assert elsewhere("--model", STRICT, "--with", STRICT).returncode == Exit.REFUSED
    for words in (
        (),
        ("--model", STRICT),
        (*VERSIONS, "--list"),
        ("--list", "--dry-run"),
        ("--follow", run_id, "--cancel", run_id),
    ):
        assert elsewhere(*words).returncode == Exit.USAGE, words
    assert len(rows(alone)) == COUNT
