"""What the tests stand on: both databases, real processes, images made by code."""

import io
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import up
from db import registry
from db.blobs import Blobs
from db.database import Database
from settings import Settings
from tests import migrated, postgres
from tests.service import CARD, Service, free_port
from tests.uploading import Api
from training import phantoms

if TYPE_CHECKING:
    from tests.trained import Trained
    from training.data import Radiographs
    from training.runs import Run


def pytest_configure() -> None:
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a script's `&` has it ignored, and who is started inherits that


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--postgresql", action="store_true", help="what else is tested on SQLite alone, on PostgreSQL")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the examples of Hypothesis took, all together."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    seconds = [report.duration for report in reports if "fuzz" in report.keywords]
    if seconds:
        terminalreporter.write_line(f"fuzz: {len(seconds)} tests took {sum(seconds):.0f} s together; 90 s are meant")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("postgresql"):
        kept = [item for item in items if isinstance(item, pytest.Function) and _has_another(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def _has_another(item: pytest.Function) -> bool:
    """Whether its database is that of a fixture which may be PostgreSQL's, and not of each kind in turn."""
    fixtures = set(item.fixturenames)
    both = fixtures & {"database_url", "migrated_url"}
    return (
        bool(fixtures & {"settings", "service", "recalled"}) and not both and item.get_closest_marker("sqlite") is None
    )


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


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database of each kind."""
    if request.param == "sqlite":
        yield migrated.sqlite(tmp_path / "test.db")
        return
    server: postgres.Postgres = request.getfixturevalue("postgresql")
    url = migrated.postgresql(server)
    yield url
    server.drop(url)


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    database = Database(migrated_url)
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
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Everything that `cxr up` starts, shared by the tests that only use it."""
    home = tmp_path_factory.mktemp("home")
    share = tmp_path_factory.mktemp("share")
    allowed = {"CXR_WEBHOOK_NETWORKS": "127.0.0.0/8", "CXR_IMPORT_ROOT": str(share)}
    given = Settings.from_environment({"CXR_HOME": str(home), "CXR_PORT": str(free_port())} | allowed)
    with _on_its_database(given, request) as settings:
        up.bring_up_to_date(settings)
        with Service.started(settings) as running:
            yield running


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    given = Settings.from_environment({"CXR_HOME": str(tmp_path), "REDIS_URL": "memory://"})  # tickets nobody takes
    with _on_its_database(given, request) as settings:
        yield settings


@contextmanager
def _on_its_database(given: Settings, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """SQLite, which is made at its first use, or with --postgresql a migrated database there."""
    if not request.config.getoption("postgresql"):
        yield given
        return
    server: postgres.Postgres = request.getfixturevalue("postgresql")
    url = migrated.postgresql(server)
    yield replace(given, database_url=url)
    server.drop(url)


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    api = Api(settings)
    yield api
    api.parts.database.close()


@pytest.fixture
def narrow(settings: Settings) -> Iterator[Api]:
    """With limits that a test can reach: 10 images, 100 kB each, 300 kB together."""
    api = Api(replace(settings, max_images=10, max_image_bytes=100_000, max_batch_bytes=300_000))
    yield api
    api.parts.database.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms in the layout of the COVID-19 Radiography Database, 24 of each class."""
    made = tmp_path_factory.mktemp("phantoms")
    phantoms.write_layout(made, patients=24, seed=1)
    return made


@pytest.fixture(scope="session")
def radiographs(folder: Path) -> "Radiographs":
    from training import data, index  # noqa: PLC0415 - loads TensorFlow, which few tests need

    return data.load(folder, index.index(folder))


@pytest.fixture(scope="session")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> "Trained":
    from tests import trained  # noqa: PLC0415 - loads TensorFlow

    return trained.by_command(folder, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def finished(trained: "Trained") -> "Run":
    return trained.run


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two of each class, for the tests that break something."""
    phantoms.write_layout(tmp_path, patients=2, seed=5, size=64)
    return tmp_path
