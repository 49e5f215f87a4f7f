"""An image with which workers died gets a trial: its answer if it is innocent, a code if its process ends before our eyes."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image as Picture
from sqlalchemy import select, update

import cxr
from db import batches, migrate, registry, tenancy
from db.batches import Item
from db.blobs import Blobs
from db.database import Database
from db.tables import Image, ImageState, Lane, Result
from settings import Settings
from tests.chaos import predictor
from tests.chaos.predictor import POISONS
from tests.project import ROOT
from tests.service import CARD, until
from worker import trial
from worker.child import Ended
from worker.decision import ModelUnusable
from worker.decoder import Decoded, decoded
from worker.decoders import Decoders
from worker.line import Line
from worker.models import Models
from worker.trial import Guilty, Trial

Radiograph = Callable[[int], bytes]
VERSION = "stand-in-a"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"CXR_HOME": str(tmp_path), "CXR_LEASE_SECONDS": "3", "CXR_DECODE_SECONDS": "1"})


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    cxr.bring_up_to_date(settings)
    with closing(Database(settings.database_url)) as database:
        yield database


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
    with pytest.raises(ModelUnusable, match="missing or damaged"):
        stand_in.judge(VERSION, [picture(31)])


def test_a_process_that_does_not_start_says_nothing_of_the_image(
    stand_in: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "MODULE", "tests.no_such_module")
    with pytest.raises(Ended):
        stand_in.judge(VERSION, [picture(31)])


def test_the_line_stores_the_answer_of_a_trial(settings: Settings, database: Database, radiograph: Radiograph) -> None:
    blobs = Blobs(settings.blobs)
    items = [Item(f"{number}.png", blobs.put(radiograph(7)), 1, "image/png") for number in range(2)]
    with database.of(tenancy.DEFAULT).write() as session:
        batches.add(session, items, lane=Lane.ROUTINE, actor="test")
    with database.write() as session:  # three workers died with the first
        session.execute(update(Image).where(Image.custom_id == "0.png").values(alone=True, strikes=3))
    models = Models(database, blobs, batch_size=8)
    with closing(Decoders(1, seconds=20, address_space=2 << 30)) as decoders:
        Line(database, blobs, models, decoders, settings, worker="w1").work(lambda: False)
    with database.read() as session:
        assert set(session.scalars(select(Image.state))) == {ImageState.CLASSIFIED}
        tried, other = session.scalars(select(Result).join(Image, Image.id == Result.image_id).order_by(Image.id))
    assert tried.raw_probability == pytest.approx(other.raw_probability, abs=1e-4)
    assert (tried.label, tried.gate, tried.reasons) == (other.label, other.gate, other.reasons)


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
