"""The checker of `make chaos` finds what it is there to find."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from db import batches, queue, registry, tenancy
from db.batches import Item
from db.blobs import Blobs
from db.database import Database
from db.tables import Lane
from tests import migrated
from tests.chaos import checker
from tests.chaos.load import Sent
from tests.queueing import finding
from tests.service import CARD

COUNT = 3


class Run:
    """Three images that were sent, classified and audited, as a whole run leaves them."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self.database, self.blobs = database, blobs
        sha256s = [blobs.put(f"image {number}".encode()) for number in range(COUNT)]
        names = [f"{number}.png" for number in range(COUNT)]
        with database.of(tenancy.DEFAULT).write() as session:
            items = [Item(name, sha256, 1, "image/png") for name, sha256 in zip(names, sha256s, strict=True)]
            self.batch_id = batches.add(session, items, lane=Lane.ROUTINE, actor="test").id
        with database.write() as session:
            held = queue.claim(session, Lane.ROUTINE, COUNT, lease_seconds=60, alone=False)
            assert held
            weights = session.execute(text("SELECT weights_sha256 FROM models")).scalar_one()
            found = [replace(finding(image), weights_sha256=weights) for image in held.images]
            queue.finish(session, held, found, [], worker="w1")
        self.sent = {"key": Sent(dict(zip(names, sha256s, strict=True)), self.batch_id)}

    def verdict(self, **more: Any) -> checker.Verdict:
        return checker.check(self.database, self.blobs, self.sent, **more)

    def change(self, statement: str) -> None:
        """As no application could: no trigger, no reference and no rule of the table stands in the way."""
        with closing(sqlite3.connect(self.database.url.removeprefix("sqlite:///"))) as connection:
            for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {trigger}")
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute(statement)
            connection.commit()


@pytest.fixture
def run(tmp_path: Path, blobs: Blobs) -> Iterator[Run]:
    with closing(Database(migrated.sqlite(tmp_path / "run.db"))) as database:
        with database.write() as session:
            registry.register(session, blobs, CARD, b"weights", actor="test")
            registry.appoint(session, registry.CHAMPION, CARD.version, actor="test")
        yield Run(database, blobs)


def test_a_whole_run_holds(run: Run) -> None:
    verdict = run.verdict()
    assert (verdict.images, verdict.holds) == (COUNT, True), verdict.problems


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM images WHERE custom_id = '1.png'", "lost: 1"),
        ("UPDATE images SET state = 'queued' WHERE custom_id = '1.png'", "lost: 1"),
        ("UPDATE images SET state = 'quarantined', code = 'worker_died' WHERE custom_id = '1.png'", "lost: 1"),
        ("UPDATE images SET lease_token = 't', lease_until = finished_at, state = 'leased'", "orphan leases: 3"),
        ("DELETE FROM results WHERE image_id = (SELECT min(image_id) FROM results)", "classified without a result"),
        ("UPDATE results SET image_sha256 = 'x' WHERE image_id = 1", "results of unknown images: 1"),
        ("UPDATE results SET weights_sha256 = 'x' WHERE image_id = 1", "results of another model: 1"),
        ("UPDATE batches SET total = 4", "do not add up: 1"),
        ("UPDATE batches SET state = 'processing'", "batches open without images under way"),
        ("UPDATE audit SET actor = 'somebody' WHERE seq = 2", "audit: "),
        ("DELETE FROM audit WHERE subject = 'image:1'", "images that the audit does not cover: 1"),
    ],
)
def test_a_broken_rule_is_named(run: Run, statement: str, said: str) -> None:
    run.change(statement)
    verdict = run.verdict()
    assert not verdict.holds
    assert any(said in problem for problem in verdict.problems), verdict.problems


def _damage(run: Run) -> None:
    run.blobs.path(next(iter(run.sent["key"].images.values()))).write_bytes(b"other bytes")


def _remove(run: Run) -> None:
    run.blobs.path(next(iter(run.sent["key"].images.values()))).unlink()


@pytest.mark.parametrize(
    ("harm", "said"), [(_damage, "do not hash to their name: 1"), (_remove, "blobs that are missing")]
)
def test_a_damaged_or_missing_blob_is_named(run: Run, harm: Callable[[Run], None], said: str) -> None:
    harm(run)
    assert any(said in problem for problem in run.verdict().problems)


def test_a_batch_that_a_repeated_request_made_is_a_duplicate(run: Run) -> None:
    run.sent = {}
    verdict = run.verdict()
    assert (verdict.duplicated, verdict.new_batches) == (1, 1)


def test_a_poisoned_image_that_was_classified_is_lost(run: Run) -> None:
    assert run.verdict(poisoned=frozenset(run.sent["key"].images.values())).lost == COUNT
