"""What the tests stand on: both databases, real processes, images made by code."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cxr
from db import migrate, registry
from db.blobs import Blobs
from db.database import Database
from settings import Settings
from tests import postgres
from tests.service import Service, free_port

CARD = registry.Card("test-1", "grey128-1", 0.5, 1.0, 0.0, "none", {}, {})


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgres.Postgres]:
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    server: postgres.Postgres = request.getfixturevalue("postgresql")
    url = server.database()
    yield url
    server.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database of each kind."""
    database = Database(database_url)
    migrate.upgrade(database)
    yield database
    database.close()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def champion(database: Database, blobs: Blobs) -> registry.Card:
    """A champion whose weights nobody loads."""
    with database.write() as session:
        registry.register(session, blobs, CARD, b"weights", actor="test")
        registry.appoint(session, registry.CHAMPION, CARD.version, actor="test")
    return CARD


@pytest.fixture(scope="session")
def radiograph() -> Callable[[int], bytes]:
    """A small synthetic PNG, another one for every seed."""

    def make(seed: int) -> bytes:
        levels = np.random.default_rng(seed).integers(0, 256, (64, 64), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(levels).resize((256, 256)).save(buffer, "PNG")
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Everything that `cxr up` starts, shared by the tests that only use it."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings.from_environment({"CXR_HOME": str(home), "CXR_PORT": str(free_port())})
    cxr.bring_up_to_date(settings)
    with Service.started(settings) as running:
        yield running
