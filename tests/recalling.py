"""A batch that the shipped model classified, and a second version that sees the same numbers otherwise."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
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

    def __init__(self, settings: Settings) -> None:
        cxr.bring_up_to_date(settings)
        self.settings = settings
        self.database = Database(settings.database_url)
        self.blobs = Blobs(settings.blobs)
        card, weights = shipped.load()
        loose = replace(card, version="cnn-loose", threshold=0.03, band_low=None, band_high=None)
        strict = replace(loose, version=STRICT, threshold=1.0)
        self.shipped = loose.version
        with self.database.write() as session:
            for one in (loose, strict):
                registry.register(session, self.blobs, one, weights, actor="test")
            registry.appoint(session, registry.CHAMPION, loose.version, actor="test")
        self.batch_id = self.submit()

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


@pytest.fixture
def recalled(tmp_path: Any) -> Iterator[Recalled]:
    made = Recalled(
        Settings.from_environment({"CXR_HOME": str(tmp_path), "REDIS_URL": "memory://", "CXR_BATCH_SIZE": "8"})
    )
    yield made
    made.database.close()
