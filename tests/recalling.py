"""A batch that the shipped model classified, and a second version that sees the same numbers otherwise."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cxr
from db import batches, registry, tenancy
from db.batches import Item, Line
from db.blobs import Blobs
from db.database import Database
from db.tables import Lane
from settings import Settings
from training import phantoms, shipped
from worker.decoders import Decoders
from worker.line import Line as WorkersLine
from worker.models import Models

COUNT = 5
STRICT = "cnn-strict"
"""The shipped weights with so high a threshold that nothing is positive."""


class Recalled:
    """One home, its database, and the commands of the command line in it."""

    shipped = "cnn-loose"

    def __init__(self, settings: Settings, batch_id: str = "") -> None:
        self.settings = settings
        self.database = Database(settings.database_url)
        self.blobs = Blobs(settings.blobs)
        self.batch_id = batch_id

    def register(self) -> None:
        card, weights = shipped.load()
        loose = replace(card, version=self.shipped, threshold=0.03, band_low=None, band_high=None)
        strict = replace(loose, version=STRICT, threshold=1.0)
        with self.database.write() as session:
            for one in (loose, strict):
                registry.register(session, self.blobs, one, weights, actor="test")
            registry.appoint(session, registry.CHAMPION, self.shipped, actor="test")

    def submit(self) -> str:
        """Submit phantoms of every kind and one picture of nothing, and classify them."""
        folder = self.settings.home / "phantoms"
        paths = phantoms.write(folder, count=COUNT, seed=1)
        items = [Item(path.name, self.blobs.put(path.read_bytes()), 1, "image/png") for path in paths]
        with self.database.of(tenancy.DEFAULT).write() as session:
            batch_id = batches.add(session, items, lane=Lane.ROUTINE, actor="test").id
        models = Models(self.database, self.blobs, batch_size=8)
        with closing(Decoders(1, seconds=20, address_space=2 << 30)) as decoders:
            line = WorkersLine(self.database, self.blobs, models, decoders, self.settings, worker="w1")
            assert line.work(lambda: False) == COUNT
        return batch_id

    def lines(self) -> list[Line]:
        with self.database.read() as session:
            return list(batches.lines(session, self.batch_id))

    def purge(self, line: Line) -> None:
        self.blobs.path(line.sha256).unlink()

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(cxr.main, words, env=self.settings.environment())

    def told(self, *words: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.run(*words, "--json").stdout)["data"]
        return answer


@pytest.fixture(scope="session")
def classified(tmp_path_factory: pytest.TempPathFactory) -> Recalled:
    """The home that every test gets a copy of."""
    settings = _settings(tmp_path_factory.mktemp("recalled"))
    cxr.bring_up_to_date(settings)
    made = Recalled(settings)
    made.register()
    made.batch_id = made.submit()
    made.database.close()
    return made


@pytest.fixture
def recalled(classified: Recalled, tmp_path: Path) -> Iterator[Recalled]:
    shutil.copytree(classified.settings.home, tmp_path, dirs_exist_ok=True)
    made = Recalled(_settings(tmp_path), classified.batch_id)
    yield made
    made.database.close()


def _settings(home: Path) -> Settings:
    return Settings.from_environment({"CXR_HOME": str(home), "REDIS_URL": "memory://", "CXR_BATCH_SIZE": "8"})
