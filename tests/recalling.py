"""A batch that the shipped model classified, a second version that sees the same numbers otherwise, and a trainer."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click.testing
import pytest
from click.testing import CliRunner
from sqlalchemy import select

import cxr
import up
from db import batches, reclassification, registry, runs, tenancy
from db.batches import Item, Line
from db.blobs import Blobs
from db.database import Database
from db.reclassification import ReclassificationRun
from db.tables import Lane, Result
from settings import Settings
from tests import migrated
from training import phantoms, shipped
from training.parts import Parts
from training.trainer import Trainer
from worker.decoders import Decoders
from worker.line import Line as WorkersLine
from worker.models import Models
from worker.tickets import Tickets, celery_app

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

    def recall(self, old: str = "", new: str = STRICT, *, dry: bool = False) -> ReclassificationRun:
        """Ask for a run, let a trainer carry it out, and return it as it then stands."""
        run_id = self.ask(old, new, dry=dry)
        self.train()
        return self.standing(run_id)

    def ask(self, old: str = "", new: str = STRICT, *, dry: bool = False) -> str:
        wanted = {"old_version": old or self.shipped, "new_version": new, "dry_run": dry}
        with self.database.write() as session:
            return reclassification.ask(session, **wanted, actor="test").id  # type: ignore[arg-type]

    def train(self) -> None:
        """Have a trainer carry out what waits, in this thread."""
        with closing(Decoders(1, seconds=20, address_space=2 << 30)) as decoders:
            parts = Parts(self.settings, self.database, self.blobs, decoders, stand_back=lambda: None)
            Trainer(parts, Tickets(celery_app(self.settings), batch_size=1), threading.Event()).look()

    def standing(self, run_id: str) -> ReclassificationRun:
        with self.database.read() as session:
            found = runs.find(session, ReclassificationRun, run_id)
        assert found
        return found

    def run(self, *words: str) -> click.testing.Result:
        return CliRunner().invoke(cxr.main, words, env=self.settings.environment())

    def told(self, *words: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.run(*words, "--json").stdout)["data"]
        return answer


@pytest.fixture(scope="session")
def classified(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recalled:
    """The home that every test gets a copy of, on SQLite, or with --postgresql there."""
    on_postgresql = request.config.getoption("postgresql")
    url = migrated.postgresql(request.getfixturevalue("postgresql")) if on_postgresql else ""
    settings = _settings(tmp_path_factory.mktemp("recalled"), url)
    up.bring_up_to_date(settings)
    made = Recalled(settings)
    made.register()
    made.batch_id = made.submit()
    made.database.close()
    return made


@pytest.fixture
def recalled(classified: Recalled, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Recalled]:
    with copied(classified, request, tmp_path) as made:
        yield made


@contextmanager
def copied(classified: Recalled, request: pytest.FixtureRequest, home: Path) -> Iterator[Recalled]:
    """A copy of the home; nobody opens the original's database, since PostgreSQL copies none that is open."""
    shutil.copytree(classified.settings.home, home, dirs_exist_ok=True)
    url, server = "", None
    if request.config.getoption("postgresql"):
        server = request.getfixturevalue("postgresql")
        url = server.database(template=classified.settings.database_url.rsplit("/", 1)[1])
    made = Recalled(_settings(home, url), classified.batch_id)
    yield made
    made.database.close()
    if server:
        server.drop(url)


def _settings(home: Path, url: str) -> Settings:
    given = {"CXR_HOME": str(home), "REDIS_URL": "memory://", "CXR_BATCH_SIZE": "8", "DATABASE_URL": url}
    return Settings.from_environment(given)


def rows(recalled: Recalled) -> dict[str, Result]:
    with recalled.database.read() as session:
        return {row.id: row for row in session.scalars(select(Result))}


def flips(recalled: Recalled) -> dict[str, dict[str, int]]:
    """What the amendments themselves say of the labels before and after."""
    found = rows(recalled)
    counted: dict[str, dict[str, int]] = {}
    for row in found.values():
        if row.amends:
            to = counted.setdefault(found[row.amends].label, {})
            to[row.label] = to.get(row.label, 0) + 1
    return counted
