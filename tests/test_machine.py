"""The queue against its model, on both databases: many histories in a row."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy.engine import make_url

from db import leases, migrate, registry
from db.blobs import Blobs
from db.database import Database
from tests.machine import Queue, quick
from tests.postgres import Postgres
from tests.service import CARD

# CI plays 500 (`make chaos TIER=middle`), `make chaos` 5000 of 50 steps.
HISTORIES = int(os.environ.get("HISTORIES", "200"))
STEPS = int(os.environ.get("STEPS", "30"))


@pytest.fixture(autouse=True)
def _few_strikes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A history is too short for ten deaths with one image."""
    monkeypatch.setattr(leases, "MOST_STRIKES", 4)


def play(machine: type[Queue], histories: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=histories,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


def prepare(database: Database, directory: Path) -> None:
    migrate.upgrade(database)
    with database.write() as session:
        registry.register(session, Blobs(directory / "blobs"), CARD, b"weights", actor="test")
        registry.appoint(session, registry.CHAMPION, CARD.version, actor="test")
    database.close()


@pytest.mark.timeout(HISTORIES * STEPS / 5 + 120)
def test_sqlite_does_what_the_model_says(tmp_path: Path) -> None:
    template = tmp_path / "template.db"
    prepare(Database(f"sqlite:///{template}"), tmp_path)
    play(
        type("OnSqlite", (Queue,), {"template": template, "directory": tmp_path, "opened": quick(tmp_path)}), HISTORIES
    )


@pytest.mark.long
@pytest.mark.timeout(HISTORIES * STEPS / 5 + 120)
def test_postgresql_does_what_the_model_says(postgresql: Postgres, tmp_path: Path) -> None:
    template = postgresql.database()
    prepare(Database(template), tmp_path)
    used: list[str] = []

    class OnPostgresql(Queue):
        directory = tmp_path

        def make(self) -> Database:
            used.append(postgresql.database(template=make_url(template).database))
            return Database(used[-1])

        def teardown(self) -> None:
            super().teardown()
            while used:
                postgresql.drop(used.pop())

    play(OnPostgresql, max(HISTORIES // 10, 1))
