"""The line with the shipped model: what is no fault of an image must cost no image."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

import up
from db import batches, registry, tenancy
from db.batches import Item
from db.blobs import Blobs
from db.database import Database
from db.tables import ImageState, Label, Lane, Result
from settings import Settings
from tests import dicoms
from tests.pictures import saved
from tests.service import CARD, until
from training import shipped
from training.phantoms import phantom
from worker import golden
from worker.decision import ModelUnusable
from worker.decoders import Decoders
from worker.line import Line
from worker.models import Models

Radiograph = Callable[[int], bytes]
COUNT = 3


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"CXR_HOME": str(tmp_path)})


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    up.bring_up_to_date(settings)
    with closing(Database(settings.database_url)) as database:
        yield database


@pytest.fixture
def line(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr("worker.models._TRY_AGAIN_SECONDS", 0.5)
    blobs = Blobs(settings.blobs)
    models = Models(database, blobs, batch_size=8)
    with closing(Decoders(1, seconds=20, address_space=2 << 30)) as decoders:
        yield Line(database, blobs, models, decoders, settings, worker="w1")


@pytest.fixture
def batch_id(settings: Settings, database: Database, radiograph: Radiograph) -> str:
    blobs = Blobs(settings.blobs)
    items = [Item(f"{seed}.png", blobs.put(radiograph(seed)), 1, "image/png") for seed in range(COUNT)]
    with database.of(tenancy.DEFAULT).write() as session:
        return batches.add(session, items, lane=Lane.ROUTINE, actor="test").id


def states(database: Database, batch_id: str) -> set[ImageState]:
    with database.read() as session:
        return {line.state for line in batches.lines(session, batch_id)}


def work(line: Line) -> int:
    return line.work(lambda: False)


def test_images_wait_while_their_directory_is_away(
    line: Line, settings: Settings, database: Database, batch_id: str
) -> None:
    away = settings.blobs.with_name("away")
    settings.blobs.rename(away)
    assert work(line) == 0
    assert states(database, batch_id) == {ImageState.QUEUED}
    assert line.problem
    away.rename(settings.blobs)
    until(lambda: work(line) == COUNT, "the model is tried again")
    assert states(database, batch_id) == {ImageState.CLASSIFIED}
    assert line.problem is None


def test_images_wait_while_no_decoding_process_starts(
    line: Line, database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for executable in ("/bin/false", "/nowhere"):
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", executable)
            assert work(line) == 0
        assert states(database, batch_id) == {ImageState.QUEUED}
        assert "decoding process" in (line.problem or "")
    assert work(line) == COUNT


def test_one_lost_blob_is_quarantined_alone(
    line: Line, settings: Settings, database: Database, batch_id: str, radiograph: Radiograph
) -> None:
    blobs = Blobs(settings.blobs)
    blobs.path(blobs.put(radiograph(1))).unlink()
    assert work(line) == COUNT
    with database.read() as session:
        found = [(line.state, line.code) for line in batches.lines(session, batch_id)]
    assert found == [
        (ImageState.CLASSIFIED, None),
        (ImageState.QUARANTINED, "image_lost"),
        (ImageState.CLASSIFIED, None),
    ]


def overflowing() -> bytes:
    """Weights of a training that went wrong: a half for a blank picture, infinity less infinity for any other."""
    with np.load(io.BytesIO(shipped.load()[1]), allow_pickle=False) as sound:
        factors = {name: 0 if "bias" in name else 1e38 if "_256." in name or "covid." in name else 1 for name in sound}
        arrays: dict[str, Any] = {name: sound[name] * np.float32(factor) for name, factor in factors.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_a_version_that_was_never_judged_must_say_what_it_said_when_it_was_trained(
    settings: Settings, database: Database
) -> None:
    card, weights = shipped.load()
    other = replace(card, version="other", config=card.config | {golden.RECORDED: [0.9] * 4})
    with database.write() as session:
        registry.register(session, Blobs(settings.blobs), other, weights, actor="test")
    with pytest.raises(ModelUnusable, match="golden pictures"):
        Models(database, Blobs(settings.blobs), batch_size=1).get("other")


def test_no_number_from_the_model_is_a_quarantine_and_never_stored_as_one(
    line: Line, settings: Settings, database: Database, radiograph: Radiograph
) -> None:
    blobs = Blobs(settings.blobs)
    with database.write() as session:
        registry.register(session, blobs, CARD, overflowing(), actor="test")
        registry.appoint(session, registry.CHAMPION, CARD.version, actor="test")
    png, jpeg = (saved(Image.fromarray(phantom(seed)), kind) for seed, kind in ((1, "PNG"), (2, "JPEG")))
    frontal = [png, jpeg, dicoms.written(dicoms.radiograph(phantom(3)))]
    items = [Item(f"{n}", blobs.put(data), 1, "image/png") for n, data in enumerate([*frontal, radiograph(1)])]
    with database.of(tenancy.DEFAULT).write() as session:
        batch_id = batches.add(session, items, lane=Lane.ROUTINE, actor="test").id
    assert work(line) == 4
    with database.read() as session:
        found = [(line.state, line.code, line.label, line.probability) for line in batches.lines(session, batch_id)]
        results = session.scalars(select(Result)).all()
    no_number = (ImageState.QUARANTINED, "model_output", None, None)
    assert found == [no_number] * 3 + [(ImageState.CLASSIFIED, None, Label.INCONCLUSIVE, None)]
    assert [(one.raw_probability, one.probability) for one in results] == [(None, None)]
    assert line.problem is None
