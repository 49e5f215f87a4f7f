"""An image with which workers died gets a trial: its answer if it is innocent, a code if its process ends before our eyes."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image as Picture
from sqlalchemy import select, update

from db import batches, migrate, registry, tenancy
from db.batches import Item
from db.blobs import Blobs
from db.database import Database
from db.tables import Image, Lane, Result
from settings import Settings
from tests.chaos import predictor
from tests.chaos.predictor import POISONS
from tests.project import ROOT
from tests.service import CARD, until
from tests.test_line import database
from worker import trial
from worker.decision import Prediction
from worker.decoder import Decoded, decoded
from worker.decoders import Decoders
from worker.line import Line
from worker.models import Models
from worker.trial import Guilty, Trial, TrialImpossible

__all__ = ["database"]  # a fixture
Radiograph = Callable[[int], bytes]
VERSION = "stand-in-a"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"CXR_HOME": str(tmp_path), "CXR_LEASE_SECONDS": "3", "CXR_DECODE_SECONDS": "1"})


@pytest.fixture
def stand_in(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """A trial before the stand-in model, which some pictures do harm to."""
    monkeypatch.setattr(trial, "MODULE", "tests.chaos.standin")
    with closing(Database(settings.database_url)) as database:
        migrate.upgrade(database)
        with database.write() as session:
            weights = predictor.WEIGHTS + VERSION.encode()
            registry.register(session, Blobs(settings.blobs), replace(CARD, version=VERSION), weights, actor="test")
    return Trial(settings, gate_version="stand-in", meanwhile=lambda: None)


def picture(level: int) -> Decoded:
    buffer = io.BytesIO()
    Picture.fromarray(np.full((16, 16), level, np.uint8)).save(buffer, "PNG")
    return decoded(buffer.getvalue())


@pytest.mark.parametrize("level", POISONS)
def test_what_ends_its_process_is_guilty(stand_in: Trial, level: int) -> None:
    with pytest.raises(Guilty):
        stand_in.judge(VERSION, [picture(level)])


def test_what_does_no_harm_gets_its_answer(stand_in: Trial) -> None:
    (found,) = stand_in.judge(VERSION, [picture(200)])
    assert found.raw is not None


def test_a_model_that_cannot_be_used_is_no_fault_of_the_image(stand_in: Trial, settings: Settings) -> None:
    for path in settings.blobs.rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    with pytest.raises(TrialImpossible, match="missing or damaged"):
        stand_in.judge(VERSION, [picture(31)])


def test_a_process_that_does_not_start_says_nothing_of_the_image(
    stand_in: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "MODULE", "tests.no_such_module")
    with pytest.raises(TrialImpossible, match="does not start"):
        stand_in.judge(VERSION, [picture(31)])


@pytest.fixture
def line(settings: Settings, database: Database, radiograph: Radiograph) -> Iterator[Line]:
    """Two images of the same bytes wait; three workers died with the first."""
    blobs = Blobs(settings.blobs)
    items = [Item(f"{number}.png", blobs.put(radiograph(7)), 1, "image/png") for number in range(2)]
    with database.of(tenancy.DEFAULT).write() as session:
        batches.add(session, items, lane=Lane.ROUTINE, actor="test")
    with database.write() as session:
        session.execute(update(Image).where(Image.custom_id == "0.png").values(alone=True, strikes=3))
    models = Models(database, blobs, batch_size=8)
    with closing(Decoders(1, seconds=20, address_space=2 << 30)) as decoders:
        yield Line(database, blobs, models, decoders, settings, worker="w1")


def ends(database: Database) -> list[tuple[str, str | None]]:
    with database.read() as session:
        return [(row.state, row.code) for row in session.execute(select(Image.state, Image.code).order_by(Image.id))]


def test_the_line_stores_the_answer_of_a_trial(line: Line, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, tried = Trial.judge, []

    def watched(self: Trial, version: str, images: Sequence[Decoded]) -> list[Prediction]:
        tried.append(len(images))
        return judge(self, version, images)

    monkeypatch.setattr(Trial, "judge", watched)
    assert line.work(lambda: False) == 2
    assert tried == [1]
    assert ends(database) == [("classified", None)] * 2
    with database.read() as session:
        one, other = session.scalars(select(Result).join(Image, Image.id == Result.image_id).order_by(Image.id))
    assert one.raw_probability == pytest.approx(other.raw_probability, abs=1e-3)
    assert (one.label, one.gate, one.reasons) == (other.label, other.gate, other.reasons)


def test_the_line_quarantines_the_guilty_alone(line: Line, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def guilty(*_: object) -> None:
        raise Guilty("two processes ended")

    monkeypatch.setattr(Trial, "judge", guilty)
    assert line.work(lambda: False) == 2
    assert ends(database) == [("quarantined", "worker_died"), ("classified", None)]


def test_where_no_trial_can_be_held_the_image_waits_unblamed_and_the_others_go_on(
    line: Line, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def impossible(*_: object) -> None:
        tries.append(1)
        raise TrialImpossible("no memory for a second process")

    with monkeypatch.context() as broken:
        broken.setattr(Trial, "judge", impossible)
        assert [line.work(lambda: False) for _ in range(3)] == [1, 0, 0]
    assert len(tries) == 1  # the next after a while
    assert ends(database) == [("queued", None), ("classified", None)]
    with database.read() as session:
        assert session.scalars(select(Image.strikes)).first() == 3
    monkeypatch.setattr(line, "_no_trial_before", 0.0)
    assert line.work(lambda: False) == 1
    assert ends(database) == [("classified", None)] * 2


def test_its_process_ends_with_a_worker_that_is_killed(stand_in: Trial, settings: Settings) -> None:
    """While it hangs, too: it would hold the worker's memory for as long."""
    del stand_in
    level = next(level for level, harm in POISONS.items() if harm.__name__ == "_hang")
    program = f"""
from settings import Settings
from worker import trial
from tests.test_trial import picture
trial.MODULE = "tests.chaos.standin"
settings = Settings.from_environment()
trial.Trial(settings, gate_version="", meanwhile=lambda: print("judged", flush=True)).judge({VERSION!r}, [picture({level})])
"""
    environment = os.environ | settings.environment() | {"CXR_LEASE_SECONDS": "600"}
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environment, stdout=subprocess.PIPE) as worker:
        assert worker.stdout
        worker.stdout.readline()  # the image is about to be handed over
        (child,) = psutil.Process(worker.pid).children()
        worker.kill()
    until(lambda: not child.is_running(), "it is gone")
