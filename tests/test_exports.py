"""40,000 results, 100,000 in CI, leave the API as a stream: its memory stays where it was."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import text

import up
from api import results
from db import batches, tenancy
from db.batches import Item
from db.database import Database
from db.tables import Batch, Image, ImageState, Lane, Result, insert_rows
from settings import Settings
from tests.access import key
from tests.examples import TIMES, both_in_ci
from tests.project import ROOT
from tests.service import free_port, until

ROWS = min(40_000 * TIMES, 100_000)
MOST_GROWTH = 16_000_000
AT = datetime(2026, 11, 22, tzinfo=UTC)


def filled(database: Database, rows: int, name: str, *, first: int) -> str:
    """A batch of so many classified images, and one that is rejected."""
    with database.of(tenancy.DEFAULT).write() as session:
        batch = batches.add(
            session, [Item("x", "0" * 64, 1, "image/png", "truncated")], lane=Lane.ROUTINE, actor="test"
        )
        session.get_one(Batch, batch.id).total = rows + 1
        for start in range(0, rows, 5_000):
            numbers = range(start, min(start + 5_000, rows))
            insert_rows(session, Image, [_image(batch, first + number, number) for number in numbers])
            insert_rows(session, Result, [_result(batch, first + number, f"{name}{number}") for number in numbers])
    return batch.id


def _image(batch: Batch, image_id: int, number: int) -> dict[str, Any]:
    return {"id": image_id, "batch_id": batch.id, "custom_id": f"ward-{number % 9}/{number}.png", "sha256": f"{number:064d}",
            "bytes": 1, "media_type": "image/png", "lane": Lane.ROUTINE, "state": ImageState.CLASSIFIED,
            "finished_at": AT, "attempts": 1, "strikes": 0, "alone": False}  # fmt: skip


def _result(batch: Batch, image_id: int, name: str) -> dict[str, Any]:
    return {"id": f"result_{name}", "image_id": image_id, "batch_id": batch.id, "image_sha256": "0" * 64,
            "model_version": batch.model_version, "weights_sha256": "0" * 64, "preprocessing": "grey128-1",
            "raw_probability": 0.25, "probability": 0.5, "threshold": 0.5, "label": "positive", "reasons": [],
            "worker": "w1", "decode_ms": 1.0, "predict_ms": 1.0,
            "created_at": AT + timedelta(seconds=image_id)}  # fmt: skip


@pytest.fixture
def serving(database: Database, tmp_path: Path) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    """A real API process over the database, and the one of its processes that answers."""
    given = {"CXR_HOME": str(tmp_path), "CXR_PORT": str(free_port()), "REDIS_URL": "memory://"}
    given["DATABASE_URL"] = database.url.replace("+psycopg", "")
    up.bring_up_to_date(Settings.from_environment(given))
    with subprocess.Popen([sys.executable, "-m", "cxr", "api"], env=os.environ | given, cwd=ROOT) as server:
        headers = {"Authorization": f"Bearer {key(database)}"}
        http = httpx.Client(base_url=f"http://127.0.0.1:{given['CXR_PORT']}", timeout=120, headers=headers)
        try:
            until(lambda: _answers(http), "the API answers")
            (worker,) = psutil.Process(server.pid).children()
            yield http, worker
        finally:
            http.close()
            server.terminate()


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/livez").is_success
    except httpx.TransportError:
        return False


def half_known(database: Database) -> None:
    """Leave PostgreSQL's statistics as its autovacuum may at any minute: it knows of the images, and not yet of their results."""
    if database.engine.name == "postgresql":
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ALTER TABLE results SET (autovacuum_enabled = false)"))
            connection.execute(text("ANALYZE images"))


@pytest.mark.scaled
@pytest.mark.long
@both_in_ci("migrated_url")
def test_exports_of_many_rows_are_flat_in_memory(
    database: Database, serving: tuple[httpx.Client, psutil.Process]
) -> None:
    http, process = serving
    small, large = filled(database, 2_000, "a", first=1_000_000), filled(database, ROWS, "b", first=2_000_000)
    half_known(database)
    forms = {"csv": ROWS + 2, "ndjson": ROWS + 1, "json": ROWS + 3}  # with one that was rejected, headers and brackets
    for form in forms:
        http.get(f"/v1/batches/{small}/results.{form}").raise_for_status()
    http.get("/v1/results?limit=1000").raise_for_status()
    before = most = process.memory_info().rss
    for form, lines in forms.items():
        found = 0
        with http.stream("GET", f"/v1/batches/{large}/results.{form}") as answer:
            assert answer.status_code == 200
            for piece in answer.iter_bytes(100_000):
                found += piece.count(b"\n")
                most = max(most, process.memory_info().rss)
        assert found == lines, form
    after, seen = "", set[str]()
    for _ in range(10):
        page = http.get(f"/v1/results?limit=1000{after}").json()
        seen |= {one["id"] for one in page["data"]}
        after = f"&after={page['after']}"
        most = max(most, process.memory_info().rss)
    assert len(seen) == 10_000
    print(f"{database.engine.name}: {before / 1e6:.0f} MB before, {most / 1e6:.0f} MB at most")  # noqa: T201
    assert most - before < MOST_GROWTH


def test_an_export_leaves_in_pieces_of_many_lines() -> None:
    lines = [f"{number},ward/{number}.png\n" for number in range(10_000)]
    pieces = list(results.gathered(lines))
    assert "".join(pieces) == "".join(lines)
    assert len(pieces) == -(-len("".join(lines)) // len(pieces[0])) < 10
    assert list(results.gathered([])) == []
